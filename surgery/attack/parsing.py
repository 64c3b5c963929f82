"""Sizes such as epsilon as users write them: `"8/255"` or a number, in units where pixels run from 0 to 1."""

from __future__ import annotations

import math
import re

from surgery.errors import InputError

SIZES = ("epsilon", "step_size")
"""The settings of an attack that are such sizes."""

_FRACTION = re.compile(r"\s*([0-9.eE+-]+)\s*(?:/\s*([0-9.eE+-]+)\s*)?")


def pixels(value: str | float | int, *, what: str = "epsilon") -> float:
    """Return a size as a number: `value` is `"8/255"`, `"0.5"`, 0.03 or 1.

    `what` is the name of the size in errors. The upper limit depends on the norm; `Attack` checks it.

    Raises InputError for anything but a finite number of at least 0.
    """
    number = _number(value, what)
    if not math.isfinite(number):
        raise InputError(f"{what}: expected a finite number, got {value!r}")
    if number < 0:
        raise InputError(f"{what}: expected a number of at least 0, got {value!r}")
    return number


def pixels_text(value: float) -> str:
    """Return a size as people write it: in 255ths where it is a whole or half number of gray levels, as in `8/255`.

    Any other size is a decimal number of six digits.
    """
    levels = 255 * value
    # A size of at least 1 is not in gray levels: it belongs to L2 or L1.
    if 0 < value < 1 and abs(2 * levels - round(2 * levels)) < 1e-9:
        return f"{levels:g}/255"
    return f"{value:g}"


def _number(value: str | float | int, what: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    try:
        if found is not None:
            return float(found[1]) / float(found[2] or 1)
    except (ValueError, ZeroDivisionError):
        pass
    if isinstance(value, str) and value.strip().lower() in ("nan", "inf", "-inf", "infinity", "-infinity"):
        return float(value)
    raise InputError(f"{what}: expected a number or a fraction, got {value!r}", hint='as in 0.03 or "8/255"')

"""Sizes as they are written: `"8/255"` or a number, in units where pixels run from 0 to 1."""

from __future__ import annotations

import math
import re

from surgery.errors import InputError

_FRACTION = re.compile(r"\s*([0-9.eE+-]+)\s*(?:/\s*([0-9.eE+-]+)\s*)?")


def pixels(value: str | float | int, *, what: str = "epsilon") -> float:
    """The size `value` as a number: `"8/255"`, `"0.5"`, 0.03 or 1; pixels run from 0 to 1.

    `what` is the name that errors give it. What is too large depends on the norm, so `Attack` refuses that.

    Raises InputError where it is no number, not finite or negative.
    """
    number = _number(value, what)
    if not math.isfinite(number):
        raise InputError(f"{what} is {value!r}; a finite number is expected")
    if number < 0:
        raise InputError(f"{what} is {value!r}; it cannot be negative")
    return number


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
    raise InputError(f"{what} is {value!r}; a number or a fraction is expected", hint='as in 0.03 or "8/255"')

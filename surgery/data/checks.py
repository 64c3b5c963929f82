"""Checks of numbers that users give."""

from __future__ import annotations

import math

from surgery.errors import InputError


def whole(value: object, what: str, *, least: int) -> int:
    """Return `value` if it is a whole number of at least `least`; raises InputError that names it `what`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{what} is a whole number of at least {least}; got {value!r}")
    return value


def number(value: object, what: str, *, least: float, most: float) -> float:
    """Return `value` as a float if it lies in [least, most]; raises InputError that names it `what`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        bounds = f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise InputError(f"{what} is a number {bounds}; got {value!r}")
    return float(value)

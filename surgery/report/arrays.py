"""Checks of the input of figures: arrays, class names, options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from surgery.errors import InputError, suggest

Values = ArrayLike | Tensor
Array = NDArray[np.float64]

_ROUNDING = 1e-5
"""Rounding in float32 can move a value outside its range by this much."""


def numbers(values: Values, what: str) -> Array:
    """`values` as a float64 array; NaN and infinities are allowed. Raises InputError for no numbers or no array."""
    try:
        given = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what}: expected an array of numbers, got {type(values).__name__}") from None
    if not array.size:
        raise InputError(f"{what}: expected entries, got an empty array of shape {array.shape}")
    return array


def finite(values: Values, what: str) -> Array:
    """`values` as a float64 array. Raises InputError for an empty array and for entries that are not finite numbers."""
    array = numbers(values, what)
    broken = ~np.isfinite(array)
    if broken.any():
        place = tuple(int(index) for index in np.argwhere(broken)[0])
        raise InputError(f"{what}: expected finite numbers, got {array[place]} at {place}")
    return array


def square(values: Values, what: str, *, low: float, high: float, absent: bool = False) -> Array:
    """`values` `(K, K)` in [low, high]; values that rounding moved outside are clipped. Raises InputError otherwise.

    `absent`: a class may have no values: then its row is NaN, and its column may be.
    """
    matrix = numbers(values, what) if absent else finite(values, what)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{what}: expected shape (classes, classes), got {matrix.shape}")
    if absent:
        missing = np.isnan(matrix)
        if missing.all():
            raise InputError(f"{what}: expected numbers, got only NaN")
        rows = missing.all(axis=1, keepdims=True)
        columns = rows.T & missing.all(axis=0, keepdims=True)
        finite(np.where(rows | columns, 0.0, matrix), what)
    outside = (matrix < low - _ROUNDING) | (matrix > high + _ROUNDING)
    if outside.any():
        i, j = (int(index) for index in np.argwhere(outside)[0])
        raise InputError(f"{what}: expected values in [{low:g}, {high:g}], got {matrix[i, j]:.6g} at ({i}, {j})")
    return np.clip(matrix, low, high)


def check_names(names: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    """The names as a tuple. Raises InputError unless there are `count`: one for each row of `what`."""
    if isinstance(names, str):
        raise InputError(f"expected a list of names, got the text {names!r}")
    if len(names) != count:
        raise InputError(f"expected {count} names, one for each row of {what}; got {len(names)}")
    return tuple(str(name) for name in names)


def check_option(value: str, known: Iterable[str], what: str) -> None:
    """Raise InputError, listing `known`, if `value` is not one of them."""
    known = tuple(known)
    if value not in known:
        raise InputError(
            f"{what}: expected {' or '.join(map(repr, known))}, got {value!r}", hint=suggest(str(value), known)
        )

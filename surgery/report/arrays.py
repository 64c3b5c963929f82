"""What comes into a figure, checked: arrays, class names, options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from surgery.errors import InputError, suggest
from surgery.hierarchy.hierarchy import Hierarchy, numbered

Values = ArrayLike | Tensor
Array = NDArray[np.float64]

_ROUNDING = 1e-5
"""How far outside its range rounding in float32 may bring a value."""


def numbers(values: Values, what: str) -> Array:
    """`values` as a float64 array, whatever the numbers. Raises InputError where they are no numbers, or none."""
    try:
        given = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} is an array of numbers; got {type(values).__name__}") from None
    if not array.size:
        raise InputError(f"{what} is empty: its shape is {array.shape}")
    return array


def finite(values: Values, what: str) -> Array:
    """`values` as a float64 array. Raises InputError where they are no numbers, none, or not finite."""
    array = numbers(values, what)
    broken = ~np.isfinite(array)
    if broken.any():
        place = tuple(int(index) for index in np.argwhere(broken)[0])
        raise InputError(f"{what} is not finite at {place}: {array[place]}")
    return array


def square(values: Values, what: str, *, low: float, high: float) -> Array:
    """`values` `(K, K)` within [low, high]; what rounding put outside is put back. Raises InputError otherwise."""
    matrix = finite(values, what)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{what} is (classes, classes); got shape {matrix.shape}")
    outside = (matrix < low - _ROUNDING) | (matrix > high + _ROUNDING)
    if outside.any():
        i, j = (int(index) for index in np.argwhere(outside)[0])
        raise InputError(f"{what} of classes {i} and {j} is {matrix[i, j]:.6g}, outside [{low:g}, {high:g}]")
    return np.clip(matrix, low, high)


def check_names(class_names: Sequence[str], classes: int, what: str) -> tuple[str, ...]:
    """The names as a tuple. Raises InputError where there is not one for each class."""
    if isinstance(class_names, str):
        raise InputError(f"class_names is a list of names; got the text {class_names!r}")
    if len(class_names) != classes:
        raise InputError(f"{what} is of {classes} classes, but {len(class_names)} class names came")
    return tuple(str(name) for name in class_names)


def check_hierarchy(hierarchy: Hierarchy, class_names: tuple[str, ...]) -> None:
    """Raise InputError where the hierarchy is of other classes, or of these in another order."""
    if len(hierarchy.class_names) != len(class_names):
        raise InputError(f"the hierarchy has {len(hierarchy.class_names)} classes, the figure {len(class_names)}")
    if numbered(len(class_names)) in (hierarchy.class_names, class_names):
        return
    for label, (name, other) in enumerate(zip(class_names, hierarchy.class_names, strict=True)):
        if name != other:
            raise InputError(
                f"class {label} is {name!r} in the figure and {other!r} in the hierarchy",
                hint="hierarchy.for_classes(class_names) brings a hierarchy's classes into another order",
            )


def check_option(value: str, known: Iterable[str], what: str) -> None:
    """Raise InputError naming what there is, where `value` is not among it."""
    known = tuple(known)
    if value not in known:
        raise InputError(f"{what} is {' or '.join(map(repr, known))}; got {value!r}", hint=suggest(str(value), known))

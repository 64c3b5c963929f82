"""What a store holds, as values: groups of variables over named dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from surgery.errors import InputError
from surgery.store.naming import (
    PROVENANCE,
    Scalar,
    check_attribute,
    check_name,
    check_text,
    check_units,
    plain_array,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinate:
    """The labels of a dimension, which has the same name: class names, or numbers.

    `values`: `(entries,)`; text or numbers. Kept as a read-only array.
    """

    name: str
    values: np.ndarray | tuple[str, ...]
    long_name: str
    units: str = "1"

    def __post_init__(self) -> None:
        where = f"coordinate {check_name(self.name, 'coordinate')!r}"
        values = plain_array(self.values, where)
        if values.ndim != 1 or values.dtype.kind == "b":
            raise InputError(f"{where}: expected one row of text or numbers, found {values.dtype} {values.shape}")
        object.__setattr__(self, "values", values)
        check_text(self.long_name, f"{where}: long_name")
        check_units(self.units, f"{where}: units")


@dataclass(frozen=True, kw_only=True, eq=False)
class Variable:
    """An array with a name for each axis.

    `data`: numbers or text, kept as a read-only array; booleans become 0 and 1 with the meanings `false` and `true`.
    `flag_meanings`: what the values 0, 1, 2, ... of a variable of whole numbers mean, a word each.
    """

    name: str
    data: np.ndarray
    dimensions: tuple[str, ...]
    long_name: str
    units: str = "1"
    flag_meanings: tuple[str, ...] | None = None
    comment: str = ""

    def __post_init__(self) -> None:
        where = f"variable {check_name(self.name, 'variable')!r}"
        data = plain_array(self.data, where)
        if data.dtype.kind == "b":
            data = plain_array(data.astype(np.uint8), where)
            object.__setattr__(self, "flag_meanings", self.flag_meanings or ("false", "true"))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        self._check_dimensions(where)
        self._check_flags(where)
        for name in ("long_name", "comment"):
            check_attribute(name, check_text(getattr(self, name), f"{where}: {name}"), where)
        check_units(self.units, f"{where}: units")

    def _check_dimensions(self, where: str) -> None:
        names = [check_name(name, f"{where}: dimension") for name in self.dimensions]
        if len(names) != self.data.ndim:
            raise InputError(f"{where}: {len(names)} dimensions {self.dimensions} for an array of {self.data.shape}")
        if len(set(names)) != len(names):
            raise InputError(
                f"{where}: a dimension is there twice in {self.dimensions}",
                hint="give the second one a name of its own, as class_other",
            )

    def _check_flags(self, where: str) -> None:
        if self.flag_meanings is None:
            return
        object.__setattr__(self, "flag_meanings", tuple(self.flag_meanings))
        if any(not check_text(word, where) or word.split() != [word] for word in self.flag_meanings):
            raise InputError(f"{where}: flag meanings are words without blanks, found {self.flag_meanings}")
        if self.data.dtype.kind not in "iu" or self.data.min() < 0 or self.data.max() >= len(self.flag_meanings):
            raise InputError(
                f"{where}: expected whole numbers from 0 to {len(self.flag_meanings) - 1}, as flag_meanings"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """What one stage has to say: complete in itself.

    `kind`: the sort of stage, as `linear`. `attributes`: a few facts of a line each. `provenance`: how it came about,
    texts of any length. Every dimension has one size; a coordinate labels the dimension of its name.
    """

    name: str
    kind: str
    variables: tuple[Variable, ...]
    coordinates: tuple[Coordinate, ...] = ()
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"group {check_name(self.name, 'group')!r}"
        check_name(self.kind, f"{where}: kind")
        object.__setattr__(self, "variables", tuple(self.variables))
        object.__setattr__(self, "coordinates", tuple(self.coordinates))
        attributes = {name: check_attribute(name, value, where) for name, value in self.attributes.items()}
        object.__setattr__(self, "attributes", MappingProxyType(attributes))
        for name, text in self.provenance.items():
            check_text(text, f"{where}: provenance {check_name(name, f'{where}: provenance')!r}")
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        _check_distinct(where, [item.name for item in (*self.coordinates, *self.variables)])
        clash = {item.name for item in self.variables} & set(self.sizes)
        if clash:
            raise InputError(
                f"{where}: {sorted(clash)} name both a variable and a dimension", hint="rename one of them"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Every dimension's size; raises InputError where two variables disagree."""
        sizes = {item.name: len(item.values) for item in self.coordinates}
        for variable in self.variables:
            for name, size in zip(variable.dimensions, variable.data.shape, strict=True):
                if sizes.setdefault(name, size) != size:
                    raise InputError(
                        f"group {self.name!r}: dimension {name!r} has {sizes[name]} entries, "
                        f"but {size} in variable {variable.name!r}"
                    )
        return sizes

    def __getitem__(self, name: str) -> np.ndarray:
        """The array of the variable or coordinate called `name`; raises KeyError."""
        for item in self.variables:
            if item.name == name:
                return item.data
        for item in self.coordinates:
            if item.name == name:
                return np.asarray(item.values)
        raise KeyError(name)


def class_coordinates(names: Iterable[str]) -> tuple[Coordinate, Coordinate]:
    """The coordinates `class` and `class_other` of a matrix of classes against classes."""
    labels = tuple(names)
    return (
        Coordinate(name="class", values=labels, long_name="class"),
        Coordinate(name="class_other", values=labels, long_name="the other class of a pair"),
    )


def _check_distinct(where: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1 or name == PROVENANCE})
    if twice:
        raise InputError(f"{where}: {', '.join(map(repr, twice))} cannot be there twice", hint="rename one of them")

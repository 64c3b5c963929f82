"""The content of a store as values: groups of variables over named dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from textwrap import shorten
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

LINE, SHOWN_LABELS, SHOWN_ITEMS = 120, 8, 24
"""The most characters of a line of a printed group, the most labels of a coordinate, and the most arrays of a group."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinate:
    """The labels of the dimension of the same name: class names, or numbers.

    `values`: `(entries,)`; text or numbers, kept as a read-only array.
    """

    name: str
    values: np.ndarray | tuple[str, ...]
    long_name: str
    units: str = "1"

    def __post_init__(self) -> None:
        where = f"coordinate {check_name(self.name, 'coordinate')!r}"
        values = plain_array(self.values, where)
        if values.ndim != 1 or values.dtype.kind == "b":
            raise InputError(
                f"{where}: expected a one-dimensional array of text or numbers, "
                f"got {values.dtype} of shape {values.shape}"
            )
        object.__setattr__(self, "values", values)
        check_text(self.long_name, f"{where}: long_name")
        check_units(self.units, f"{where}: units")

    def __repr__(self) -> str:
        values = np.asarray(self.values)
        shown = ", ".join(map(str, values[:SHOWN_LABELS])) + (", ..." if len(values) > SHOWN_LABELS else "")
        return shorten(f"Coordinate({self.name} {len(values)}: {shown})", LINE, placeholder=" ...)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Variable:
    """An array with a name for each axis.

    `data`: numbers or text, kept as a read-only array; booleans become 0 and 1 with the meanings `false` and `true`.
    `flag_meanings`: the meanings of the values 0, 1, 2, ... of an integer variable, one word each.
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
            # netCDF-4 cannot read HDF5 booleans, which are an enumeration.
            data = plain_array(data.astype(np.uint8), where)
            object.__setattr__(self, "flag_meanings", self.flag_meanings or ("false", "true"))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        self._check_dimensions(where)
        if self.flag_meanings is not None:
            object.__setattr__(self, "flag_meanings", tuple(self.flag_meanings))
            self._check_flags(where, self.flag_meanings)
        for name in ("long_name", "comment"):
            check_attribute(name, check_text(getattr(self, name), f"{where}: {name}"), where)
        check_units(self.units, f"{where}: units")

    def __repr__(self) -> str:
        sizes = zip(self.dimensions, self.data.shape, strict=True)
        axes = ", ".join(f"{name} {size}" for name, size in sizes)
        kind = "text" if self.data.dtype.kind == "U" else self.data.dtype
        return shorten(f"Variable({self.name} ({axes}) {kind}: {self.long_name})", LINE, placeholder=" ...)")

    def _check_dimensions(self, where: str) -> None:
        names = [check_name(name, f"{where}: dimension") for name in self.dimensions]
        if len(names) != self.data.ndim:
            raise InputError(
                f"{where}: expected a dimension for each axis of shape {self.data.shape}, got {self.dimensions}"
            )
        if len(set(names)) != len(names):  # xarray refuses to read such a variable
            raise InputError(
                f"{where}: expected different dimensions, got {self.dimensions}",
                hint="give the second one another name, such as class_other",
            )

    def _check_flags(self, where: str, meanings: tuple[str, ...]) -> None:
        if any(not check_text(word, where) or word.split() != [word] for word in meanings):
            raise InputError(f"{where}: expected flag meanings without spaces, got {meanings}")
        if self.data.dtype.kind not in "iu" or self.data.min() < 0 or self.data.max() >= len(meanings):
            raise InputError(
                f"{where}: expected integers from 0 to {len(meanings) - 1}, because there are {len(meanings)} "
                "flag meanings"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """The result of one stage, complete in itself.

    `kind`: the kind of the stage, such as `linear`. `attributes`: a few facts of one line each. `provenance`: how the
    result came about, as texts of any length. All variables agree on the size of a dimension; a coordinate labels the
    dimension of its name.
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
        names = [PROVENANCE, *(item.name for item in (*self.coordinates, *self.variables))]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(
                f"{where}: the name {repeated[0]!r} is used more than once",
                hint=f"rename a variable or coordinate; {PROVENANCE!r} is the name of the group's provenance",
            )
        clash = sorted({item.name for item in self.variables} & set(self.sizes))
        if clash:
            raise InputError(f"{where}: {clash[0]!r} names both a variable and a dimension", hint="rename one of them")

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every dimension; raises InputError if two variables disagree."""
        sizes = {item.name: len(item.values) for item in self.coordinates}
        for variable in self.variables:
            for name, size in zip(variable.dimensions, variable.data.shape, strict=True):
                if sizes.setdefault(name, size) != size:
                    raise InputError(
                        f"group {self.name!r}: dimension {name!r} has {sizes[name]} entries, "
                        f"but {size} in variable {variable.name!r}"
                    )
        return sizes

    def __repr__(self) -> str:
        items = [*self.coordinates, *self.variables]
        lines = [f"  {item!r}" for item in items[:SHOWN_ITEMS]]
        if len(items) > SHOWN_ITEMS:
            lines.append(f"  and {len(items) - SHOWN_ITEMS} more")
        attributes = ", ".join(f"{name} {value}" for name, value in self.attributes.items())
        facts = {"attributes": attributes, "provenance": ", ".join(self.provenance)}
        lines += ["  " + shorten(f"{name}: {text}", LINE, placeholder=" ...") for name, text in facts.items() if text]
        return "\n".join([f"Group {self.name} ({self.kind})", *lines])

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
    """The coordinates `class` and `class_other` of a matrix with a row and a column for each class."""
    labels = tuple(names)
    return (
        Coordinate(name="class", values=labels, long_name="class"),
        Coordinate(name="class_other", values=labels, long_name="the other class of a pair"),
    )

"""A recipe's data with the origin of every value: files over the files that they include, flags over files."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from surgery.recipe.problems import Flag, Place
from surgery.recipe.schema import RecipeFile
from surgery.toml import Location, TomlDocument
from surgery.validation import Visited, visit

Origin = tuple[TomlDocument | Flag, Location]
"""The document or flag that a value is from, and its location there."""


class NoTableError(Exception):
    """A key goes through a value that is no table; `location` is that of the value."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self.location = location


@dataclass(frozen=True, kw_only=True, eq=False)
class Merged:
    """Nested data, and for every table and every other value in tables where it is from."""

    data: Mapping[str, Any]
    origins: Mapping[Location, Origin]

    @cached_property
    def visited(self) -> tuple[Visited, ...]:
        """All values beside what the schema has in their places."""
        return tuple(visit(RecipeFile, self.data))

    def under(self, layer: Mapping[str, Any], source: TomlDocument | Flag) -> Merged:
        """With `layer` on top: tables are merged key by key, unless the upper one has another `kind`."""
        data, origins = copy.deepcopy(dict(self.data)), dict(self.origins)
        origins[()] = (source, ())
        _merge(data, layer, (), source, origins)
        return Merged(data=data, origins=origins)

    def with_value(self, location: Location, value: Any, origin: Origin) -> Merged:
        """With the value at `location` set, and tables on the way there made where they are missing.

        Raises NoTableError where something on the way is no table.
        """
        data, origins = dict(self.data), dict(self.origins)
        table = data
        for end, part in enumerate(map(str, location[:-1]), start=1):
            if part not in table:
                table[part], origins[location[:end]] = {}, origin
            if not isinstance(table[part], dict):
                raise NoTableError(location[:end])
            table[part] = dict(table[part])
            table = table[part]
        _put(table, location, value, origin, origins)
        return Merged(data=data, origins=origins)

    def without(self, key: str) -> Merged:
        """Without the top-level `key`."""
        return Merged(data={name: value for name, value in self.data.items() if name != key}, origins=self.origins)

    def place(self, location: Location, *, on_key: bool = False) -> Place:
        """Where the value at `location` stands, or its key."""
        source, inner = self.origin(location)
        if isinstance(source, Flag):
            return source
        return source.key_position(inner) if on_key else source.position(inner)

    def folder(self, location: Location) -> Path:
        """The folder from which paths at `location` start."""
        source, _ = self.origin(location)
        return Path.cwd() if isinstance(source, Flag) else Path(os.path.abspath(source.path)).parent  # noqa: PTH100

    def origin(self, location: Location) -> Origin:
        """The document or flag of the value at `location`, and its location there."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.origins:
                source, base = self.origins[location[:end]]
                return source, (*base, *location[end:])
        raise AssertionError("the whole has an origin")


def _merge(
    into: dict[str, Any],
    layer: Mapping[str, Any],
    location: Location,
    source: TomlDocument | Flag,
    origins: dict[Location, Origin],
) -> None:
    for key, value in layer.items():
        here = (*location, key)
        below = into.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and value.get("kind") in (None, below.get("kind")):
            origins[here] = (source, here)
            _merge(below, value, here, source, origins)
        else:
            _put(into, here, value, (source, here), origins)


def _put(
    table: dict[str, Any], location: Location, value: Any, origin: Origin, origins: dict[Location, Origin]
) -> None:
    if location[-1] in table:
        for known in [known for known in origins if known[: len(location)] == location]:
            del origins[known]
    table[str(location[-1])] = copy.deepcopy(value)
    source, base = origin
    for inner in _tables_and_values(value):
        origins[(*location, *inner)] = (source, (*base, *inner))


def _tables_and_values(value: Any) -> Iterator[Location]:
    yield ()
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((key, *rest) for rest in _tables_and_values(inner))

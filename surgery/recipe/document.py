"""A recipe's data as one document: files over the files that they include, and `--set` over all of them.

Every value keeps its origin, so that a mistake is reported where it was written.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from surgery.recipe.problems import Flag, Place
from surgery.recipe.schema import RecipeFile
from surgery.stages.extension import ExtensionStage
from surgery.stages.fields import FilePath
from surgery.stages.registry import table_of
from surgery.toml import Location, TomlDocument
from surgery.validation import Visited, visit

Origin = tuple[TomlDocument | Flag, Location]
"""The file or flag that a value is from, and its location there."""


class NoTableError(Exception):
    """A key leads through a value that is not a table; `location`: of that value."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self.location = location


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """Nested data with the origin of every table and of every other value in a table."""

    data: Mapping[str, Any]
    origins: Mapping[Location, Origin]

    @cached_property
    def visited(self) -> tuple[Visited, ...]:
        """All values, each with what the schema has in its place."""
        return tuple(visit(RecipeFile, self.data))

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The stages that are tables."""
        stages = self.data.get("stage")
        return {} if not isinstance(stages, dict) else {name: t for name, t in stages.items() if isinstance(t, dict)}

    def under(self, layer: Mapping[str, Any], source: TomlDocument) -> Document:
        """With `layer` on top: tables are merged key by key, except where the upper one has another `kind`."""
        data, origins = copy.deepcopy(dict(self.data)), dict(self.origins)
        origins[()] = (source, ())
        _merge(data, layer, (), source, origins)
        return Document(data=data, origins=origins)

    def with_value(self, location: Location, value: Any, origin: Origin) -> Document:
        """With the value at `location` set; missing tables on the way are made.

        Raises NoTableError if something on the way is not a table.
        """
        # Only the tables on the way are copied: a matrix makes thousands of documents of one.
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
        return Document(data=data, origins=origins)

    def copied(self, source: Location, target: Location, value: Any) -> Document:
        """With `value`, which is that at `source`, also at `target`: every part of it keeps its origin."""
        document = self.with_value(target, value, self.origin(source))
        inner = {known: origin for known, origin in self.origins.items() if known[: len(source)] == source}
        moved = {(*target, *known[len(source) :]): origin for known, origin in inner.items()}
        return Document(data=document.data, origins={**document.origins, **moved})

    def without(self, key: str) -> Document:
        """Without the top-level `key`."""
        return Document(data={name: value for name, value in self.data.items() if name != key}, origins=self.origins)

    def place(self, location: Location, *, on_key: bool = False) -> Place:
        """Where the value at `location` was written, or its key."""
        source, inner = self.origin(location)
        if isinstance(source, Flag):
            return source
        return source.key_position(inner) if on_key else source.position(inner)

    def origin(self, location: Location) -> Origin:
        """The file or flag that the value at `location` is from, and its location there."""
        # Elements of lists and missing keys have no origin of their own; that of the nearest table places them.
        for end in range(len(location), -1, -1):
            if location[:end] in self.origins:
                source, base = self.origins[location[:end]]
                return source, (*base, *location[end:])
        raise AssertionError("the whole document has an origin")

    def with_absolute_paths(self) -> Document:
        """With relative paths resolved: in a file from the file's folder, in a flag from the current folder."""
        document = self
        for visited in self.visited:
            for marker in visited.markers:
                text = visited.value
                if isinstance(marker, FilePath) and isinstance(text, str) and text and marker.fits(text):
                    path = self._absolute(visited.location, text)
                    document = document if path == text else document._replaced(visited.location, path)
        # Which keys of a user's stage kind are paths is written in its class, which is not imported here: a text that
        # names an existing file is one.
        for name, table in self.stages.items():
            for key, text in table.items() if table_of(table.get("kind")) is ExtensionStage else ():
                path = self._absolute(("stage", name, key), text) if isinstance(text, str) and key != "kind" else ""
                if os.path.isfile(path) and path != text:  # noqa: PTH113 - never raises
                    document = document._replaced(("stage", name, key), path)
        return document

    def _absolute(self, location: Location, text: str) -> str:
        source, _ = self.origin(location)
        # No Path methods: they resolve links or raise for paths that the operating system refuses.
        here = os.getcwd() if isinstance(source, Flag) else os.path.dirname(os.path.abspath(source.path))  # noqa: PTH100, PTH109, PTH120
        return os.path.normpath(os.path.join(here, os.path.expanduser(text)))  # noqa: PTH111, PTH118

    def _replaced(self, location: Location, value: Any) -> Document:
        """With the value at `location` replaced, which may be an element of a list; its origin stays."""
        end = next(end for end in range(len(location) + 1) if end == len(location) or isinstance(location[end], int))
        if end == len(location):
            return self.with_value(location, value, self.origin(location))
        items: Any = self.data
        for part in location[:end]:
            items = items[part]
        items = [value if index == location[end] else item for index, item in enumerate(items)]
        return self.with_value(location[:end], items, self.origin(location[:end]))


def _merge(
    into: dict[str, Any],
    layer: Mapping[str, Any],
    location: Location,
    source: TomlDocument,
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
        # The origins of the replaced value are deeper than it: one that stayed would point into another file.
        for inner in _tables_and_values(table[str(location[-1])]):
            origins.pop((*location, *inner), None)
    table[str(location[-1])] = copy.deepcopy(value)
    source, base = origin
    for inner in _tables_and_values(value):
        origins[(*location, *inner)] = (source, (*base, *inner))


def _tables_and_values(value: Any) -> Iterator[Location]:
    yield ()
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((key, *rest) for rest in _tables_and_values(inner))

"""A recipe's data as one document: files over the files that they include, and `--set` over all of them.

Every value keeps its origin, so that a mistake is reported where it was written.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from surgery.errors import InputError, suggest
from surgery.recipe.problems import Flag, Place, Problem, RecipeError
from surgery.recipe.schema import RecipeFile
from surgery.stages.extension import ExtensionStage
from surgery.stages.fields import FilePath
from surgery.stages.registry import table_of
from surgery.toml import Location, TomlDocument, TomlError, parse_toml, read_text
from surgery.validation import Visited, visit

_INSTALLED = Path(__file__).parent / "shipped"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "recipes"
"""The folder of shipped recipes: next to this file once installed, at the top of a checkout."""

MOST_FILES = 100
"""The most files of one recipe, each read once: a chain of includes is as deep as the calls that read it."""

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


def shipped_names() -> tuple[str, ...]:
    """The names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe, given by its path or as the name of a shipped recipe.

    Raises InputError with the nearest names if neither exists.
    """
    path = Path(name_or_path)
    if str(name_or_path) in shipped_names() and not path.is_file():
        return SHIPPED / f"{name_or_path}.toml"
    if path.suffix != ".toml" and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for long names
        hint = suggest(str(name_or_path), shipped_names()) or f"shipped recipes are {', '.join(shipped_names())}"
        message = f"unknown recipe {str(name_or_path)!r}: no shipped recipe and no file has this name"
        raise InputError(message, hint=hint)
    return path


def read_document(path: Path, overrides: Sequence[tuple[str, str]], problems: list[Problem]) -> Document:
    """The data of the recipe at `path` over the recipes that it includes, under `overrides`; its paths are absolute.

    Overrides that are wrong are added to `problems` and left out. Raises RecipeError for text that is not TOML and for
    includes that cannot be read, InputError if there is no such file.
    """
    file = _parse(path)
    document = Document(data={}, origins={(): (file, ())})
    found: list[Problem] = []
    document = _with_includes(file, document, (os.path.realpath(path),), {os.path.realpath(path)}, found)
    if found:
        raise RecipeError(found)
    for key, text in overrides:
        document = _overridden(document, key, text, problems)
    return document.with_absolute_paths()


def _parse(path: Path) -> TomlDocument:
    try:
        return parse_toml(read_text(path), str(path))
    except TomlError as error:
        raise RecipeError([Problem(place=error.position, message=error.reason)]) from None


def _with_includes(
    file: TomlDocument, below: Document, including: tuple[str, ...], seen: set[str], problems: list[Problem]
) -> Document:
    """`file` over what it includes over `below`; a file that was `seen` is not included a second time.

    `including`: the chain of files that leads here, by which a circle is noticed.
    """
    for index, name in _includes(file, problems):
        place = file.position(("include", index))
        try:
            path = _included(name, Path(file.path).parent)
            identity = os.path.realpath(path)
            if identity in including:
                chain = [*including[including.index(identity) :], identity]
                message = f"recipes include each other: {' includes '.join(Path(item).name for item in chain)}"
                problems.append(Problem(place=place, message=message))
            elif identity not in seen:
                if len(seen) == MOST_FILES:
                    raise InputError(f"expected at most {MOST_FILES} files that include each other")
                seen.add(identity)
                below = _with_includes(_parse(path), below, (*including, identity), seen, problems)
                # The name and description of an included recipe are its own.
                if isinstance(head := below.data.get("recipe"), dict):
                    own = {key: value for key, value in head.items() if key not in ("name", "description")}
                    below = Document(data={**below.data, "recipe": own}, origins=below.origins)
        except RecipeError as error:
            problems += error.problems
        except InputError as error:
            problems.append(Problem(place=place, message=error.message, hint=error.hint))
    return below.under({key: value for key, value in file.data.items() if key != "include"}, file)


def _includes(file: TomlDocument, problems: list[Problem]) -> Iterable[tuple[int, str]]:
    listed = file.data.get("include", [])
    if not isinstance(listed, list) or not all(isinstance(item, str) and item for item in listed):
        place = file.position(("include",))
        problems.append(Problem(place=place, message="include: expected a list of names or paths of recipes"))
        return ()
    if len(listed) > MOST_FILES:
        place, message = file.position(("include",)), f"include: expected at most {MOST_FILES} files, got {len(listed)}"
        problems.append(Problem(place=place, message=message))
        return ()
    return enumerate(listed)


def _included(name: str, folder: Path) -> Path:
    """The file of an included recipe: relative to the file that includes it, or a shipped recipe by its name."""
    if name in shipped_names():
        return SHIPPED / f"{name}.toml"
    path = folder / name
    if not os.path.exists(path):  # noqa: PTH110 - this never raises
        near = [item.name for item in folder.glob("*.toml")] if folder.is_dir() else []
        raise InputError(f"{path}: no such file", hint=suggest(name, [*near, *shipped_names()]))
    return path


def _overridden(document: Document, key: str, text: str, problems: list[Problem]) -> Document:
    """With the value that a flag `--set KEY=TEXT` gives."""
    flag = Flag(text=f"{key}={text}")
    location = parse_key(key)
    if location is None:
        problems.append(Problem(place=flag, message="expected a dotted key", hint="as in stage.at.epochs=2"))
    elif location[0] == "include":
        problems.append(Problem(place=flag, message="include can only be written in files"))
    elif (missing := missing_stage(document, location)) is not None:
        problems.append(Problem(place=flag, message=missing[0], hint=missing[1]))
    else:
        try:
            return document.with_value(location, _parse_value(text), (flag, ()))
        except NoTableError as error:
            problems.append(Problem(place=flag, message=f"{'.'.join(map(str, error.location))} is not a table"))
    return document


def parse_key(text: str) -> tuple[str, ...] | None:
    """The parts of a dotted key, which may be quoted as in TOML; None for other texts."""
    parts: list[str] = []
    try:
        table: Any = parse_toml(f"{text} = 0", "key").data
    except TomlError:
        return None
    while isinstance(table, dict):
        if len(table) != 1:
            return None
        [(part, table)] = table.items()
        parts.append(part)
    return tuple(parts) if table == 0 else None


def missing_stage(document: Document, location: Location) -> tuple[str, str | None] | None:
    """The message and hint if `location` is inside a stage that does not exist; None otherwise."""
    stages = document.data.get("stage")
    if len(location) < 3 or location[0] != "stage" or not isinstance(stages, dict) or location[1] in stages:
        return None
    return f"unknown stage {location[1]!r}", suggest(str(location[1]), stages) or f"there are {', '.join(stages)}"


def _parse_value(text: str) -> Any:
    """A value as TOML writes it; anything else is a text."""
    try:
        data = parse_toml(f"value = {text}", "value").data
    except TomlError:
        return text
    return data["value"] if len(data) == 1 else text

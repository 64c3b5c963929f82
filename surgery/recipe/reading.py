"""From a recipe's name or path and the flags beside it to merged data: includes, overrides, paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from surgery.errors import InputError, suggest
from surgery.files import existing_file
from surgery.recipe.fields import FilePath
from surgery.recipe.merging import Merged, NoTableError
from surgery.recipe.problems import Flag, Problem, RecipeError
from surgery.toml import Location, TomlDocument, TomlError, parse_toml

_BESIDE = Path(__file__).parent / "shipped"
SHIPPED = _BESIDE if _BESIDE.is_dir() else Path(__file__).parents[2] / "recipes"
"""Where shipped recipes are: beside this file once installed, at the top of a checkout."""


def shipped_names() -> tuple[str, ...]:
    """The names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe: a path, or the name of a shipped one.

    Raises InputError with the nearest names where there is neither.
    """
    path = Path(name_or_path)
    if str(name_or_path) in shipped_names() and not path.is_file():
        return SHIPPED / f"{name_or_path}.toml"
    if path.suffix != ".toml" and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for long names
        hint = suggest(str(name_or_path), shipped_names()) or f"shipped are {', '.join(shipped_names())}"
        raise InputError(f"no recipe is called {str(name_or_path)!r}, and there is no such file", hint=hint)
    return path


def read_recipe(path: Path, overrides: Sequence[tuple[str, str]] = ()) -> tuple[Merged, list[Problem]]:
    """The data of the recipe at `path` over those that it includes, under `overrides`; paths in it are absolute.

    Also what is wrong with overrides, which are then left out. Raises RecipeError for text that is not TOML and for
    includes that cannot be had, InputError where there is no such file.
    """
    document = _parse(path, str(path))
    problems: list[Problem] = []
    empty = Merged(data={}, origins={(): (document, ())})
    merged = _with_includes(document, empty, (_identity(path),), {_identity(path)}, problems)
    if problems:
        raise RecipeError(problems)
    for key, text in overrides:
        merged = _overridden(merged, key, text, problems)
    return anchored(merged), problems


def anchored(merged: Merged) -> Merged:
    """With paths that start where they stand: in a file at its folder, in a flag at the current folder."""
    for visited in merged.visited:
        for marker in visited.markers:
            text = visited.value
            if isinstance(marker, FilePath) and isinstance(text, str) and text and marker.fits(text):
                path = os.path.normpath(merged.folder(visited.location) / os.path.expanduser(text))  # noqa: PTH111
                if path != text:
                    merged = _replaced(merged, visited.location, path)
    return merged


def _replaced(merged: Merged, location: Location, value: Any) -> Merged:
    """With the value at `location` replaced, which may be in a list; its origin stays."""
    end = next(end for end in range(len(location) + 1) if end == len(location) or isinstance(location[end], int))
    if end == len(location):
        return merged.with_value(location, value, merged.origin(location))
    items: Any = merged.data
    for part in location[:end]:
        items = items[part]
    items = [value if index == location[end] else item for index, item in enumerate(items)]
    return merged.with_value(location[:end], items, merged.origin(location[:end]))


def _identity(path: Path) -> str:
    return os.path.realpath(path)


def _parse(path: Path, name: str) -> TomlDocument:
    """Raises InputError where the file cannot be read, RecipeError where it is not TOML."""
    try:
        text = existing_file(path).read_text(encoding="utf-8")
        return parse_toml(text, name)
    except TomlError as error:
        raise RecipeError([Problem(place=error.position, message=error.reason)]) from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: not a text file (UTF-8 expected)") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {error}") from None


def _with_includes(
    document: TomlDocument, below: Merged, including: tuple[str, ...], seen: set[str], problems: list[Problem]
) -> Merged:
    """`document` over what it includes over `below`; what was `seen` is not included a second time."""
    for index, name in _includes(document, problems):
        place = document.position(("include", index))
        try:
            path = _included(name, Path(document.path).parent)
            if _identity(path) in including:
                chain = [*including[including.index(_identity(path)) :], _identity(path)]
                message = f"recipes include each other: {' includes '.join(Path(item).name for item in chain)}"
                problems.append(Problem(place=place, message=message))
                continue
            if _identity(path) in seen:
                continue
            seen.add(_identity(path))
            inner = _parse(path, str(path))
        except RecipeError as error:
            problems += error.problems
        except InputError as error:
            problems.append(Problem(place=place, message=error.message, hint=error.hint))
        else:
            below = _without_identity(_with_includes(inner, below, (*including, _identity(path)), seen, problems))
    layer = {key: value for key, value in document.data.items() if key != "include"}
    return below.under(layer, document)


def _includes(document: TomlDocument, problems: list[Problem]) -> Iterable[tuple[int, str]]:
    listed = document.data.get("include", [])
    if not isinstance(listed, list) or not all(isinstance(item, str) and item for item in listed):
        place = document.position(("include",))
        problems.append(Problem(place=place, message="include: expected a list of names or paths of recipes"))
        return ()
    return enumerate(listed)


def _included(name: str, folder: Path) -> Path:
    """A file beside the one that includes it, or a shipped recipe by its name."""
    if name in shipped_names():
        return SHIPPED / f"{name}.toml"
    path = folder / name
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - these never raise
        raise InputError(f"{path}: not a file")
    if not os.path.exists(path):  # noqa: PTH110
        near = [item.name for item in folder.glob("*.toml")] if folder.is_dir() else []
        raise InputError(f"{path}: no such file", hint=suggest(name, [*near, *shipped_names()]))
    return path


def _without_identity(merged: Merged) -> Merged:
    """Without the name and description of an included recipe, which are its own."""
    head = merged.data.get("recipe")
    if not isinstance(head, dict):
        return merged
    own = {key: value for key, value in head.items() if key not in ("name", "description")}
    return Merged(data={**merged.data, "recipe": own}, origins=merged.origins)


def _overridden(merged: Merged, key: str, text: str, problems: list[Problem]) -> Merged:
    flag = Flag(text=f"{key}={text}")
    location = parse_key(key)
    if location is None:
        problems.append(Problem(place=flag, message="expected a dotted key", hint="as in stage.at.epochs=2"))
    elif location[0] == "include":
        problems.append(Problem(place=flag, message="include stands in files only"))
    elif (missing := missing_stage(merged, location)) is not None:
        problems.append(Problem(place=flag, message=missing[0], hint=missing[1]))
    else:
        try:
            return merged.with_value(location, _parse_value(text), (flag, ()))
        except NoTableError as error:
            problems.append(Problem(place=flag, message=f"{'.'.join(map(str, error.location))} is no table"))
    return merged


def parse_key(text: str) -> tuple[str, ...] | None:
    """The parts of a dotted key, which may be quoted as in TOML; None where it is none."""
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


def missing_stage(merged: Merged, location: Location) -> tuple[str, str | None] | None:
    """What to say where `location` is inside a stage that there is not."""
    stages = merged.data.get("stage")
    if len(location) < 3 or location[0] != "stage" or not isinstance(stages, dict) or location[1] in stages:
        return None
    return f"no stage is called {location[1]!r}", suggest(str(location[1]), stages) or f"there are {', '.join(stages)}"


def _parse_value(text: str) -> Any:
    """A value as in TOML; what is none is a text."""
    try:
        data = parse_toml(f"value = {text}", "value").data
    except TomlError:
        return text
    return data["value"] if len(data) == 1 else text

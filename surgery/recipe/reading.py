"""Reading a recipe: its file, the files that it includes, and `--set`, to one document."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from surgery.errors import InputError, suggest
from surgery.recipe.document import Document, NoTableError
from surgery.recipe.problems import Flag, Problem, RecipeError
from surgery.toml import Location, TomlDocument, TomlError, parse_toml, read_text

_INSTALLED = Path(__file__).parent / "shipped"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "recipes"
"""The folder of shipped recipes: next to this file once installed, at the top of a checkout."""

MOST_FILES = 100
"""The most files of one recipe, each read once: a chain of includes is as deep as the calls that read it."""


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

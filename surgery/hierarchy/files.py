"""Hierarchies from TOML or JSON files, with file:line:column and a caret for every mistake.

classes = ["cat", "car", "dog"]         # optional: the order of the labels

[superclasses]
animals = ["cat", "dog"]
vehicles = ["car"]
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surgery.errors import InputError, Position, suggest
from surgery.hierarchy.hierarchy import Hierarchy
from surgery.hierarchy.named import named
from surgery.toml import Location, TomlDocument, parse_toml, read_text

_KEYS = ("superclasses", "classes")
_SUPERCLASSES: Location = ("superclasses",)


def load_hierarchy(name_or_path: str | Path, *, class_names: Sequence[str] | None = None) -> Hierarchy:
    """Load a known hierarchy by its name (`cifar10`), or one from a `.toml` or `.json` file.

    `class_names` are the classes of the data in label order, which the hierarchy has to cover exactly. By default, a
    file's own `classes` give the order, or else the order in which the file mentions them.

    Raises InputError, with file:line:column and a caret where a file is wrong.
    """
    path = Path(name_or_path)
    suffix = path.suffix.lower()
    if not (isinstance(name_or_path, Path) or suffix in (".toml", ".json") or path.is_file()):
        known = named(str(name_or_path))
        missing = [item for item in known.class_names if class_names is not None and item not in class_names]
        if missing and class_names is not None:
            raise InputError(
                f"the data have no class {missing[0]!r}, which the hierarchy {str(name_or_path)!r} has",
                hint=suggest(missing[0], class_names) or "for part of the classes, use for_classes",
            )
        return known if class_names is None else known.for_classes(class_names)
    parse = _parse_json if suffix == ".json" else parse_toml
    return _from_document(parse(read_text(path), str(name_or_path)), class_names)


def _from_document(document: TomlDocument, class_names: Sequence[str] | None) -> Hierarchy:
    data: Any = document.data
    if not isinstance(data, dict) or not isinstance(data.get("superclasses"), dict) or not data["superclasses"]:
        message = "expected a table 'superclasses' that maps names to lists of classes"
        raise InputError(document.key_position(_SUPERCLASSES).point(message))
    for key in data:
        if key not in _KEYS:
            message = f"unknown key {key!r}; there are {', '.join(_KEYS)}"
            raise InputError(document.key_position((key,)).point(message), hint=suggest(key, _KEYS))
    places = _places(document)
    if class_names is None and "classes" in data:
        class_names = _listed_classes(document)
    if class_names is not None:
        known = set(class_names)
        for name, location in places.items():
            if name not in known:
                message = f"the data have no class {name!r}"
                raise InputError(document.position(location).point(message), hint=suggest(name, class_names))
        for name in class_names:
            if name not in places:
                message = f"class {name!r} of the data is in no superclass"
                raise InputError(document.key_position(_SUPERCLASSES).point(message))
    method = f"file {Path(document.path).name}"
    return Hierarchy.of_groups(data["superclasses"], class_names=class_names, method=method)


def _places(document: TomlDocument) -> dict[str, Location]:
    """The place of each class, which is in exactly one superclass."""
    places: dict[str, Location] = {}
    for name, members in document.data["superclasses"].items():
        location: Location = (*_SUPERCLASSES, name)
        if not isinstance(members, list) or not members or not all(isinstance(item, str) for item in members):
            message = f"superclass {name!r} is a list of class names that is not empty"
            raise InputError(document.key_position(location).point(message))
        for index, item in enumerate(members):
            if item in places:
                message = f"class {item!r} is already in superclass {places[item][1]!r}"
                raise InputError(document.position((*location, index)).point(message))
            places[item] = (*location, index)
    return places


def _listed_classes(document: TomlDocument) -> tuple[str, ...]:
    classes = document.data["classes"]
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise InputError(document.key_position(("classes",)).point("classes is a list of class names"))
    seen = set[str]()
    for index, item in enumerate(classes):
        if item in seen:
            message = f"class {item!r} is listed twice in classes"
            raise InputError(document.position(("classes", index)).point(message))
        seen.add(item)
    return tuple(classes)


_SPACE = re.compile(r"[ \t\n\r]*")


def _parse_json(text: str, path: str) -> TomlDocument:
    """JSON text with the positions of its keys and values, in the form in which TOML has them.

    The standard library parses and refuses; a second pass over text that it accepted finds the positions.
    """
    values: dict[Location, int] = {}
    keys: dict[Location, int] = {}
    decoder, starts = json.JSONDecoder(), [0, *(match.end() for match in re.finditer("\n", text))]

    def place(at: int) -> tuple[int, int]:
        line = bisect.bisect_right(starts, at)
        return line, at - starts[line - 1] + 1

    def skip(at: int) -> int:
        found = _SPACE.match(text, at)
        return at if found is None else found.end()

    def error(at: int, message: str) -> InputError:
        line, column = place(at)
        return InputError(Position(path=path, line=line, column=column, text=text.split("\n")[line - 1]).point(message))

    def scan(at: int, location: Location) -> int:
        """Record the value that starts at `at`, and return the position after it."""
        values[location] = at
        if text[at] not in "[{":
            return decoder.raw_decode(text, at)[1]
        closing = "]" if text[at] == "[" else "}"
        at, index = skip(at + 1), 0
        while text[at] != closing:
            part: str | int = index
            if closing == "}":
                part, end = decoder.raw_decode(text, at)
                if (*location, part) in keys:  # json itself keeps the last one without an error
                    raise error(at, f"the key {part!r} appears twice")
                keys[(*location, part)] = at
                at = skip(skip(end) + 1)  # after the colon
            at, index = skip(scan(at, (*location, part))), index + 1
            at = skip(at + 1) if text[at] == "," else at
        return at + 1

    try:
        data = json.loads(text)
        scan(skip(0), ())
    except json.JSONDecodeError as wrong:
        raise error(wrong.pos, wrong.msg) from None
    except ValueError:  # Python itself refuses whole numbers of thousands of digits
        raise error(0, "a number has more than 4300 digits") from None
    except RecursionError:
        raise error(0, "lists and objects are nested too deeply") from None
    positions, key_positions = ({at: place(start) for at, start in found.items()} for found in (values, keys))
    return TomlDocument(path=path, text=text, data=data, positions=positions, keys=key_positions)

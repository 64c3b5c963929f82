"""Hierarchies from TOML or JSON files, where every mistake is pointed at with file:line:column and a caret.

classes = ["cat", "car", "dog"]         # optional: the order of the labels

[superclasses]
animals = ["cat", "dog"]
vehicles = ["car"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.errors import InputError, Position, suggest
from surgery.files import existing_file
from surgery.hierarchy.hierarchy import Hierarchy
from surgery.hierarchy.named import named
from surgery.toml import parse_toml

_KEYS = ("superclasses", "classes")

_KEY = r"""(?:"{0}"|'{0}'|(?<![\w-]){0})(?=\s*[=:.\]])"""
_VALUE = r"""(?:"{0}"|'{0}')"""
"""How keys stand in TOML and JSON, and how strings do: quoted, which words in comments mostly are not."""


def load_hierarchy(name_or_path: str | Path, *, class_names: Sequence[str] | None = None) -> Hierarchy:
    """Load a known hierarchy by its name (`cifar10`), or one from a `.toml` or `.json` file.

    `class_names` are the classes of the data in label order, which the hierarchy has to cover exactly. By default, a
    file's own `classes` give the order, or else that in which it mentions them.

    Raises InputError, with file:line:column and a caret where a file is wrong.
    """
    if not _is_path(name_or_path):
        known = named(str(name_or_path))
        return known if class_names is None else _in_order(known, class_names, str(name_or_path))
    path = existing_file(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file (UTF-8 expected)") from None
    file = _File(path=str(name_or_path), text=text)
    data = _parse_json(file) if path.suffix.lower() == ".json" else parse_toml(text, file.path).data
    return _from_data(file, data, class_names)


def _is_path(name_or_path: str | Path) -> bool:
    path = Path(name_or_path)
    return isinstance(name_or_path, Path) or path.suffix.lower() in (".toml", ".json") or path.is_file()


def _in_order(known: Hierarchy, class_names: Sequence[str], name: str) -> Hierarchy:
    missing = [item for item in known.class_names if item not in class_names]
    if missing:
        raise InputError(
            f"the data have no class {missing[0]!r}, which the hierarchy {name!r} has",
            hint=suggest(missing[0], class_names) or "for part of the classes, use for_classes",
        )
    return known.for_classes(class_names)


@dataclass(frozen=True, kw_only=True)
class _File:
    path: str
    text: str

    def error(self, message: str, *keys: str, values: tuple[str, ...] = (), hint: str | None = None) -> InputError:
        """An error that points at the last of `keys` and then `values`, looking for each behind the one before."""
        place, end = 0, 0
        patterns = [_KEY.format(re.escape(key)) for key in keys] + [_VALUE.format(re.escape(item)) for item in values]
        for pattern in patterns:
            if found := re.compile(pattern).search(self.text, end):
                place, end = found.span()
        return InputError(self.at(place).point(message), hint=hint)

    def at(self, offset: int) -> Position:
        before = self.text[:offset]
        line = before.count("\n")
        text = (self.text.splitlines() or [""])[min(line, len(self.text.splitlines()) - 1)]
        return Position(path=self.path, line=line + 1, column=offset - (before.rfind("\n") + 1) + 1, text=text)


def _parse_json(file: _File) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for index, (key, _) in enumerate(pairs):
            if key in [earlier for earlier, _ in pairs[:index]]:  # json itself would keep the last and say nothing
                raise file.error(f"{key!r} stands here twice", key, key)
        return dict(pairs)

    try:
        return json.loads(file.text, object_pairs_hook=distinct)
    except json.JSONDecodeError as error:
        raise InputError(file.at(error.pos).point(error.msg)) from None


def _from_data(file: _File, data: Any, class_names: Sequence[str] | None) -> Hierarchy:
    if not isinstance(data, dict) or not isinstance(data.get("superclasses"), dict) or not data["superclasses"]:
        raise file.error("a hierarchy has a table 'superclasses' that maps names to lists of classes", "superclasses")
    for key in data:
        if key not in _KEYS:
            raise file.error(f"unknown key {key!r}; there are {', '.join(_KEYS)}", key, hint=suggest(key, _KEYS))
    home = _homes(file, data["superclasses"])
    order = class_names if class_names is not None else _classes(file, data)
    if order is not None:
        _check_cover(file, home, tuple(order))
    return Hierarchy.of_groups(data["superclasses"], class_names=order, method=f"file {Path(file.path).name}")


def _classes(file: _File, data: dict[str, Any]) -> tuple[str, ...] | None:
    classes = data.get("classes")
    if classes is None:
        return None
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise file.error("classes is a list of class names", "classes")
    for index, item in enumerate(classes):
        if item in classes[:index]:
            raise file.error(f"class {item!r} stands twice in classes", "classes", values=(item, item))
    return tuple(classes)


def _homes(file: _File, groups: dict[str, Any]) -> dict[str, str]:
    """The superclass of each class."""
    home: dict[str, str] = {}
    for name, members in groups.items():
        if not isinstance(members, list) or not members or not all(isinstance(item, str) for item in members):
            raise file.error(f"superclass {name!r} is a list of class names that is not empty", "superclasses", name)
        for item in members:
            if item in home:
                repeated = (item, item) if home[item] == name else (item,)
                raise file.error(
                    f"class {item!r} is already in superclass {home[item]!r}", "superclasses", name, values=repeated
                )
            home[item] = name
    return home


def _check_cover(file: _File, home: dict[str, str], class_names: tuple[str, ...]) -> None:
    for item, name in home.items():
        if item not in class_names:
            raise file.error(
                f"the data have no class {item!r}",
                "superclasses",
                name,
                values=(item,),
                hint=suggest(item, class_names),
            )
    for item in class_names:
        if item not in home:
            raise file.error(f"class {item!r} of the data is in no superclass", "superclasses")

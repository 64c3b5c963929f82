"""TOML files that remember where everything stands, so that errors can point with a caret.

The standard library parses; positions are found again by a scan of the headers and keys, which is exact for files
written one key a line and falls back to the nearest enclosing key or header otherwise.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.errors import InputError, Position
from surgery.files import existing_file

Location = tuple[str | int, ...]
"""A path into the data, like `("rule", 2, "match")`."""

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(r"""^(\s*)("[^"]+"|'[^']+'|[A-Za-z0-9_.-]+)\s*=\s*""")


@dataclass(frozen=True, kw_only=True)
class TomlDocument:
    """Parsed data with the text that it came from."""

    path: str
    text: str
    data: dict[str, Any]
    positions: dict[Location, tuple[int, int]]

    def position(self, location: Location, *, offset: int = 0) -> Position:
        """Where the value at `location` starts, moved right by `offset` characters; the nearest known parent
        otherwise.
        """
        for end in range(len(location), -1, -1):
            found = self.positions.get(location[:end])
            if found is not None:
                line, column = found
                text = self.text.splitlines()[line - 1] if self.text else ""
                inner = _inline_key(text, column, location[end:])
                shift = offset if end == len(location) else 0
                return Position(
                    path=self.path, line=line, column=min((inner or column) + shift, len(text) + 1), text=text
                )
        return Position(path=self.path, line=1, column=1, text=(self.text.splitlines() or [""])[0])


def read_toml(path: str | Path) -> TomlDocument:
    """Read a TOML file.

    Raises InputError, with file:line:column and a caret, where the file is not TOML.
    """
    file = existing_file(path)
    try:
        return parse_toml(file.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file (UTF-8 expected)") from None


def parse_toml(text: str, path: str) -> TomlDocument:
    """Parse TOML text; `path` is what errors call it."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(_syntax_position(text, path, str(error)).point(_plain(str(error)))) from None
    return TomlDocument(path=path, text=text, data=data, positions=_scan(text))


def _plain(message: str) -> str:
    return re.sub(r"\s*\(at .*\)$", "", message)


def _syntax_position(text: str, path: str, message: str) -> Position:
    lines = text.splitlines() or [""]
    found = re.search(r"at line (\d+), column (\d+)", message)
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    line = min(line, len(lines))
    return Position(path=path, line=line, column=column, text=lines[line - 1])


def _scan(text: str) -> dict[Location, tuple[int, int]]:
    """Map the location of every header and key to the line and column where its value starts."""
    positions: dict[Location, tuple[int, int]] = {(): (1, 1)}
    counts: dict[str, int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            names = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            table = _table(names, header[1] == "[[", counts)
            positions[table] = (number, line.index("[") + 1)
        elif key := _KEY.match(line):
            names = (key[2].strip("\"'"),) if key[2][0] in "\"'" else tuple(key[2].split("."))
            positions.setdefault((*table, *names), (number, key.end() + 1))
            positions.setdefault(("key", *table, *names), (number, len(key[1]) + 1))
    return positions


def _table(names: tuple[str, ...], is_array: bool, counts: dict[str, int]) -> Location:
    if is_array:
        joined = ".".join(names)
        counts[joined] = counts.get(joined, -1) + 1
    location: list[str | int] = []
    for end, name in enumerate(names, start=1):
        location.append(name)
        joined = ".".join(names[:end])
        if joined in counts:
            location.append(counts[joined])
    return tuple(location)


def _inline_key(line: str, start: int, rest: Location) -> int | None:
    """The column of the last of `rest` that names a key of an inline table on this line."""
    found = None
    for part in rest:
        match = re.compile(rf"[\"']?{re.escape(str(part))}[\"']?\s*=").search(line, start - 1)
        found = match.start() + 1 if match else found
    return found

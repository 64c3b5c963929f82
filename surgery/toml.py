"""TOML with the position of every key, value and element, so that errors can point with a caret.

The standard library parses the text and refuses mistakes, but keeps no positions. A second pass over the accepted text
finds them, at any depth of inline tables and lists, without further checks.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from surgery.errors import InputError, Position
from surgery.files import existing_file

Location = tuple[str | int, ...]
"""A path into the data, like `("rule", 2, "match")`."""

DEEPEST = 64
"""The deepest nesting of tables and lists, and the most parts of a dotted key.

Deeper data are refused before anything recurses into them.
"""

LARGEST = 2 * 2**20
"""The most bytes of a text file: thousands of rules or stages, and parsed within seconds."""


class TomlError(InputError):
    """Text that is not TOML: the `reason`, and the `position` of the mistake."""

    def __init__(self, reason: str, position: Position) -> None:
        super().__init__(position.point(reason))
        self.reason = reason
        self.position = position


@dataclass(frozen=True, kw_only=True)
class TomlDocument:
    """Parsed data with their text.

    `positions` maps the location of each value (of a table: its header) to its line and column, `keys` to those of its
    key.
    """

    path: str
    text: str
    data: dict[str, Any]
    positions: dict[Location, tuple[int, int]]
    keys: dict[Location, tuple[int, int]]

    def position(self, location: Location, *, offset: int = 0) -> Position:
        """The start of the value at `location`, moved right by `offset` characters; for an unknown location, the start
        of its nearest known parent.
        """
        for end in range(len(location), -1, -1):
            found = self.positions.get(location[:end])
            if found is not None:
                return self._at(found, offset if end == len(location) else 0)
        return self._at((1, 1), 0)

    def key_position(self, location: Location) -> Position:
        """The start of the key of the value at `location`; for elements of a list, of the key of the list."""
        while location and isinstance(location[-1], int):
            location = location[:-1]
        found = self.keys.get(location)
        return self.position(location) if found is None else self._at(found, 0)

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text, split once: a file may have thousands of mistakes."""
        return _lines(self.text)

    def _at(self, place: tuple[int, int], offset: int) -> Position:
        line, column = place
        text = self.lines[line - 1]
        return Position(path=self.path, line=line, column=min(column + offset, len(text) + 1), text=text)


def read_text(path: str | Path) -> str:
    """The text of a recipe, a ruleset or a similar file that people write.

    Raises InputError for a folder, pipe or device, for a file above `LARGEST` bytes, and for one that is not UTF-8.
    """
    try:
        with existing_file(path).open("rb") as stream:
            content = stream.read(LARGEST + 1)  # not the size that the file system tells: it may grow meanwhile
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(content) > LARGEST:
        raise InputError(f"{path}: expected a text file of at most {LARGEST >> 20} MiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not a text file: expected UTF-8, got the byte 0x{content[error.start]:02x}"
        ) from None


def read_toml(path: str | Path) -> TomlDocument:
    """Read a TOML file.

    Raises InputError with file:line:column and a caret for a file that is not TOML, and those of `read_text`.
    """
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, path: str) -> TomlDocument:
    """Parse TOML text; `path` is its name in errors.

    Raises TomlError, also for legal text that is nested deeper than `DEEPEST`.
    """
    too_deep = f"tables and lists are nested deeper than {DEEPEST}"
    long_key = _long_key(text)
    if long_key is not None:
        raise TomlError(f"a dotted key has more than {DEEPEST} parts", _place_of(text, path, long_key))
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise TomlError(too_deep, _position(text, path, 1, 1)) from None
    except tomllib.TOMLDecodeError as error:
        reason = re.sub(r"\s*\(at .*\)$", "", str(error))
        found = re.search(r"at line (\d+), column (\d+)", str(error))
        lines = _lines(text.rstrip("\r\n"))
        line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
        raise TomlError(reason, _position(text, path, line, column)) from None
    except ValueError:  # Python itself refuses whole numbers of thousands of digits
        digits = re.search(r"[0-9_]{4300,}", text)
        at = digits.start() if digits is not None else 0
        raise TomlError("a number has more than 4300 digits", _place_of(text, path, at)) from None
    if _depth(data) > DEEPEST:
        raise TomlError(too_deep, _position(text, path, 1, 1))
    scan = _Scan(text=_unix(text))
    scan.run()
    positions, keys = scan.places(scan.values), scan.places(scan.keys)
    return TomlDocument(path=path, text=text, data=data, positions=positions, keys=keys)


def _long_key(text: str) -> int | None:
    """The start of a dotted key of more than `DEEPEST` parts.

    tomllib needs time and memory that grow with the square of the parts, so such a key is noticed before parsing.
    """
    if all(line.count(".") < DEEPEST for line in text.split("\n")):
        return None
    return next((token.start() for token in _TOKEN.finditer(text) if token.lastgroup == "key"), None)


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _lines(text: str) -> list[str]:
    """The lines as TOML counts them: `splitlines` also splits at characters that are allowed inside strings."""
    return _unix(text).split("\n")


def _place_of(text: str, path: str, at: int) -> Position:
    """The position of the character number `at`, counted from zero."""
    return _position(text, path, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _position(text: str, path: str, line: int, column: int) -> Position:
    lines = _lines(text)
    line = min(line, len(lines))
    return Position(path=path, line=line, column=column, text=lines[line - 1])


def _depth(data: Any) -> int:
    """The depth of nested tables and lists, found without recursion."""
    deepest, left = 0, [(data, 1)]
    while left:
        value, depth = left.pop()
        deepest = max(deepest, depth)
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if depth <= DEEPEST:
            left += [(item, depth + 1) for item in inner if isinstance(item, (dict, list))]
    return deepest


_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:\\.|[^"\\])*"' + r"|'[^']*'", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\n#]+")
# Strings and comments are tokens, so that dots inside them do not count; possessive, so that no text takes long.
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:\\.|[^"\\\n])*+"|'[^'\n]*+')"""
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    + r"|'''.*?'{3,5}"
    + rf"|(?P<key>(?:{_PART}[ \t]*\.[ \t]*){{{DEEPEST}}})|{_PART}|#[^\n]*+|[^A-Za-z0-9_\"'#-]++|.",
    re.DOTALL,
)


@dataclass(kw_only=True)
class _Scan:
    """One pass over legal TOML: the starts of values and keys.

    `counts`: the number of the last table of each array of tables, whose headers repeat the same name.
    """

    text: str
    at: int = 0
    values: dict[Location, int] = field(default_factory=dict)
    keys: dict[Location, int] = field(default_factory=dict)
    counts: dict[Location, int] = field(default_factory=dict)

    def run(self) -> None:
        self.values[()] = 0
        table: Location = ()
        while self._skip() < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def places(self, found: dict[Location, int]) -> dict[Location, tuple[int, int]]:
        """Lines and columns, from one."""
        starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        lines = {location: bisect.bisect_right(starts, at) for location, at in found.items()}
        return {location: (line, found[location] - starts[line - 1] + 1) for location, line in lines.items()}

    def _skip(self) -> int:
        space = _SPACE.match(self.text, self.at)
        assert space is not None, "the pattern matches the empty text"
        self.at = space.end()
        return self.at

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found is not None, "the text was parsed before"
        self.at = found.end()
        return found[0]

    def _key(self) -> Iterator[tuple[str, int]]:
        """The parts of a dotted key, each with its start."""
        while True:
            start = self._skip()
            if self.text[start] in "\"'":
                yield tomllib.loads(f"k = {self._take(_STRING)}")["k"], start
            else:
                yield self._take(_BARE), start
            if self.text[self._skip()] != ".":
                return
            self.at += 1

    def _header(self) -> Location:
        start = self.at
        array = self.text.startswith("[[", start)
        self.at += 2 if array else 1
        location: Location = ()
        parts = list(self._key())
        for number, (name, place) in enumerate(parts, start=1):
            location = (*location, name)
            self.keys.setdefault(location, place)
            if array and number == len(parts):
                self.counts[location] = self.counts.get(location, -1) + 1
            self.values.setdefault(location, start)
            if location in self.counts:
                location = (*location, self.counts[location])
                self.values.setdefault(location, start)
        self.values[location] = start
        self.at += 2 if array else 1
        return location

    def _pair(self, table: Location) -> None:
        location = table
        for name, place in self._key():
            location = (*location, name)
            self.keys.setdefault(location, place)
            self.values.setdefault(location, place)
        self.at += 1
        self._value(location)

    def _value(self, location: Location) -> None:
        start = self._skip()
        self.values[location] = start
        opening = self.text[start]
        if opening in "\"'":
            self._take(_STRING)
        elif opening in "[{":
            self._inside(location, closing="]" if opening == "[" else "}")
        else:
            self._take(_SCALAR)

    def _inside(self, location: Location, *, closing: str) -> None:
        """The elements of a list, or the pairs of an inline table."""
        self.at += 1
        index = 0
        while self.text[self._skip()] != closing:
            if closing == "]":
                self._value((*location, index))
            else:
                self._pair(location)
            index += 1
            if self.text[self._skip()] == ",":
                self.at += 1
        self.at += 1

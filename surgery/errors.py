"""Errors: each names the expected and the given value, the place, and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_EXCERPT = 160
"""The most characters of a line that an error shows."""


class SurgeryError(Exception):
    """Base of all errors raised on purpose; `message` names the mistake and its place, `hint` a remedy."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class InputError(SurgeryError):
    """A file, option, shape, name or other input of the user is wrong."""


class ModelFileError(InputError):
    """A model file is missing, damaged, foreign, unsafe, or does not fit the architecture."""


class TraceError(InputError):
    """No rung of the tracing ladder can trace the model; names the module path and the source line."""


class RuleError(InputError):
    """A rule or ruleset is wrong: syntax, unknown name, unbound capture, unmet expectation."""


class RewriteError(SurgeryError):
    """Applying a rule would break the graph: a changed shape, rules that feed each other."""


class CertificateError(SurgeryError):
    """A graph does not have the property that its ruleset promises; names the nodes to blame."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in a text file; line and column count from one."""

    path: str
    line: int
    column: int
    text: str

    def point(self, message: str) -> str:
        """Format `message` as `file:line:column` with the line, shortened, and a caret under the column."""
        start = max(0, self.column - 1 - _EXCERPT // 2) if len(self.text) > _EXCERPT else 0
        before, after = "..." if start else "", "..." if start + _EXCERPT < len(self.text) else ""
        gutter = f"{self.line} | {before}"
        caret = " " * (len(gutter) + self.column - 1 - start) + "^"
        shown = self.text[start : start + _EXCERPT]
        return f"{self.path}:{self.line}:{self.column}: {message}\n{gutter}{shown}{after}\n{caret}"


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return `did you mean ...?` for the known names nearest to `name`, or None."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.55)
    return f"did you mean {' or '.join(repr(item) for item in close)}?" if close else None


def printable(name: object, most: int = _EXCERPT) -> str:
    """`name` as one line of at most about `most` characters, with line breaks and control characters escaped.

    Names that come from files may hold escape sequences, which a terminal would obey.
    """
    text = str(name)
    shown = text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]} ({len(text)} characters)"
    # `unicode_escape` would also escape the letters of other languages, which are harmless.
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)

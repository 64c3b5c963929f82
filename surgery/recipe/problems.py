"""Problems of a recipe, each with its place, and the error that reports all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from surgery.errors import InputError, Position


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A place on the command line: `--set KEY=VALUE`."""

    text: str

    def point(self, message: str) -> str:
        return f"--set {self.text}: {message}"


Place = Position | Flag


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake: its place, what was expected and what was given, and what may have been meant."""

    place: Place
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.place.point(f"{self.message}; {self.hint}" if self.hint else self.message)


MOST_SHOWN = 50
"""The most problems that the message of an error lists."""


class RecipeError(InputError):
    """A recipe has mistakes: `problems` holds all of them, in the order of its files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(dict.fromkeys(problems), key=_order))
        more = len(self.problems) - MOST_SHOWN
        rest = [f"and {more} more problems"] if more > 0 else []
        super().__init__("\n".join([*map(str, self.problems[:MOST_SHOWN]), *rest]))


def _order(problem: Problem) -> tuple[str, int, int]:
    place = problem.place
    return (place.path, place.line, place.column) if isinstance(place, Position) else ("\x7f", 0, 0)

"""A matrix with a row and a column for each class: colored blocks on a terminal, numbers elsewhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from surgery.report.colors import DIVERGING, SEQUENTIAL

NAME = 20
"""The most characters of a class name next to a row of blocks."""

NUMBERS = 40
"""The most rows and columns of numbers, unless all are requested."""

LEVELS = (0, 95, 135, 175, 215, 255)
"""The levels of red, green and blue of a terminal with 256 colors."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """The superclass of each class, according to a group of the store, or to the known hierarchy called `group`."""

    group: str
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]
    known: bool = False

    def __str__(self) -> str:
        if self.known:
            return f"classes by the known superclasses ({self.group})"
        return f"classes by the superclasses of group {self.group!r}"

    def of(self, labels: tuple[str, ...]) -> tuple[str, ...] | None:
        """The superclasses of the classes called `labels`, in their order; None if these are other classes."""
        found = dict(zip(self.classes, self.superclasses, strict=True))
        return tuple(found[label] for label in labels) if found.keys() == set(labels) else None


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The output: whether it has colors, its width in characters, the order of classes, whether to show all numbers.

    `palette`: whether it has only the 256 colors of a palette.
    """

    colors: bool
    width: int
    order: Order | None
    everything: bool
    palette: bool = False


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A color for each number, as in figures: from white at 0 to blue, and to orange for negative numbers."""

    low: float
    high: float

    def color(self, value: float) -> tuple[int, int, int]:
        """The red, green and blue of `value`."""
        stops = [_channels(color) for color in (DIVERGING if self.low < 0 else SEQUENTIAL)]
        span = self.high - self.low or 1.0
        place = min(1.0, max(0.0, (value - self.low) / span)) * (len(stops) - 1)
        first = min(int(place), len(stops) - 2)
        pairs = zip(stops[first], stops[first + 1], strict=True)
        red, green, blue = (round(start + (end - start) * (place - first)) for start, end in pairs)
        return red, green, blue


def scale_of(matrix: np.ndarray) -> Scale:
    """The scale for `matrix`: from 0 if nothing is negative, else symmetric around 0; [-1, 1] for correlations."""
    finite = matrix[np.isfinite(matrix)]
    high = float(np.abs(finite).max()) if finite.size else 1.0
    if finite.size and finite.min() < 0:
        bound = 1.0 if 0.5 < high <= 1 else high
        return Scale(low=-bound, high=bound)
    return Scale(low=0.0, high=high)


def matrix_view(matrix: np.ndarray, labels: tuple[str, ...], where: Surface) -> Iterator[RenderableType]:
    """Draw `matrix` `(classes, classes)`, ordered by superclass if `where` has an order of these classes."""
    marks: tuple[str, ...] = ()
    superclasses = None if where.order is None else where.order.of(labels)
    numbers = list(range(len(labels)))
    if superclasses is None:
        yield Text("  classes in label order", style="dim")
    else:
        first = {name: index for index, name in reversed(list(enumerate(superclasses)))}
        numbers.sort(key=lambda index: first[superclasses[index]])
        matrix, labels = matrix[np.ix_(numbers, numbers)], tuple(labels[index] for index in numbers)
        marks = tuple(superclasses[index] for index in numbers)
        yield Text(f"  {where.order}", style="dim")
    if where.colors:
        yield from _blocks(matrix, labels, marks, numbers, where)
    else:
        shown = labels if where.everything else labels[:NUMBERS]
        room = max(map(cell_len, shown))
        yield Text(f"  {'':<{room}} " + " ".join(_fit(label, 8, right=True) for label in shown))
        for label, row in zip(shown, matrix, strict=False):
            yield Text(f"  {_fit(label, room)} " + " ".join(f"{value:8.3g}" for value in row[: len(shown)]))
        if len(shown) < len(labels):
            yield Text(f"  ... and {len(labels) - len(shown)} more rows and columns (-v for all)", style="dim")


def _blocks(
    matrix: np.ndarray, labels: Sequence[str], marks: Sequence[str], numbers: Sequence[int], where: Surface
) -> Iterator[RenderableType]:
    """Two characters for each entry, or for the mean of several entries if the terminal is too narrow.

    Rows have the numbers and names of their classes, columns the numbers.
    """
    scale = scale_of(matrix)
    digits = len(str(len(labels) - 1))
    room = digits + 1 + min(NAME, max(map(cell_len, labels)))
    step = max(1, math.ceil(2 * (len(labels) + len(set(marks))) / max(2, where.width - room - 3)))
    if step > 1:
        yield Text(f"  each block is the mean over {step} x {step} classes", style="dim")
        starts = list(range(0, len(labels), step))
        counts = np.diff([*starts, len(labels)])
        sums = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
        matrix, marks = sums / np.outer(counts, counts), ()
        labels = [labels[start] + (" ..." if count > 1 else "") for start, count in zip(starts, counts, strict=True)]
        numbers = [numbers[start] for start in starts]
    heads = [_head(number, column, digits) for column, number in enumerate(numbers)]
    columns = Text(f"  {'':<{room}} ")
    for row, label in enumerate(labels):
        gap = row and marks and marks[row] != marks[row - 1]
        if gap:
            yield Text()
        columns.append("  " if gap else "").append_text(heads[row])
        line = Text(f"  {numbers[row]:>{digits}} {_fit(label, room - digits - 1)} ")
        for column in range(len(labels)):
            gap = column and marks and marks[column] != marks[column - 1]
            line.append("  " if gap else "").append_text(_cell(float(matrix[row, column]), scale, where))
        yield line
    yield columns
    legend = Text(f"\n  {'':<{room}} {scale.low:.3g} ")
    for number in range(11):
        legend.append_text(_cell(scale.low + (scale.high - scale.low) * number / 10, scale, where))
    yield legend.append(f" {scale.high:.3g}")


def _head(number: int, column: int, digits: int) -> Text:
    """The number of a column in its two characters; of three digits, in every second column.

    Numbers of two digits touch each other, so every second one is dim.
    """
    if digits > 2:
        return Text(f"{number:<4}" if column % 2 == 0 else "", style="dim")
    return Text(f"{number:>2}", style="dim" if column % 2 and digits > 1 else "")


def _cell(value: float, scale: Scale, where: Surface) -> Text:
    if not math.isfinite(value):
        return Text("??", style="dim")
    color = scale.color(value)
    ground = Color.from_ansi(palette_color(color)) if where.palette else Color.from_rgb(*color)
    return Text("  ", style=Style(bgcolor=ground))


@lru_cache(maxsize=4096)
def palette_color(color: tuple[int, int, int]) -> int:
    """The nearest color of the 256, by number.

    Grays other than white are left out: as the nearest ones, they would take the sign from small numbers.
    """
    cube = [steps for steps in itertools.product(range(6), repeat=3) if len(set(steps)) > 1 or steps == (5, 5, 5)]

    def distance(steps: tuple[int, ...]) -> int:
        return sum((LEVELS[step] - channel) ** 2 for step, channel in zip(steps, color, strict=True))

    red, green, blue = min(cube, key=distance)
    return 16 + 36 * red + 6 * green + blue


def _channels(color: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


def _fit(text: str, room: int, *, right: bool = False) -> str:
    """`text` in `room` columns of a terminal, where some characters take two."""
    if cell_len(text) > room:
        return f"{set_cell_size(text, room - 1)}…"
    return " " * (room - cell_len(text)) + text if right else set_cell_size(text, room)

"""A matrix of classes against classes: coloured blocks on a terminal, numbers elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

NAME = 20
"""Characters of a class name beside a row."""

NUMBERS = 40
"""Rows and columns of numbers unless all are asked for."""

RED, WHITE, BLUE = (178, 24, 43), (247, 247, 247), (33, 102, 172)
"""Ends and middle of the colour scales, told apart by colour-blind eyes too."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which superclass each class is in, according to `group`."""

    group: str
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What there is to draw on: colours or not, `width` characters, the order of classes, all numbers or some."""

    colours: bool
    width: int
    order: Order | None
    everything: bool


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From numbers to colours: from white to blue, or from red over white at 0 to blue."""

    low: float
    high: float

    def colour(self, value: float) -> tuple[int, int, int]:
        """The red, green and blue of `value`."""
        bound = max(abs(self.low), abs(self.high)) or 1.0
        if self.low >= 0:
            return _between(WHITE, BLUE, value / bound)
        return _between(WHITE, BLUE if value >= 0 else RED, abs(value) / bound)


def scale_of(matrix: np.ndarray) -> Scale:
    """The scale for `matrix`: from 0 where nothing is negative, else centred at 0; correlations get all of [-1, 1]."""
    finite = matrix[np.isfinite(matrix)]
    high = float(np.abs(finite).max()) if finite.size else 1.0
    if finite.size and finite.min() < 0:
        bound = 1.0 if 0.5 < high <= 1 else high
        return Scale(low=-bound, high=bound)
    return Scale(low=0.0, high=high)


def matrix_view(matrix: np.ndarray, labels: tuple[str, ...], where: Surface) -> Iterator[RenderableType]:
    """Draw `matrix` `(classes, classes)`; the classes of a superclass come together where one is known."""
    order, marks = _arranged(labels, where.order)
    matrix, labels = matrix[np.ix_(order, order)], tuple(labels[index] for index in order)
    if where.order is not None and marks:
        yield Text(f"  classes by the superclasses of group {where.order.group!r}", style="dim")
    if where.colours:
        yield from _blocks(matrix, labels, marks, where.width)
    else:
        yield from _numbers(matrix, labels, NUMBERS if not where.everything else len(labels))


def _arranged(labels: tuple[str, ...], order: Order | None) -> tuple[list[int], tuple[str, ...]]:
    """The order in which classes are drawn, and their superclasses in it; none where `order` is of other classes."""
    if order is None or order.classes != labels:
        return list(range(len(labels))), ()
    ranks = {name: rank for rank, name in reversed(list(enumerate(order.superclasses)))}
    places = sorted(range(len(labels)), key=lambda index: ranks[order.superclasses[index]])
    return places, tuple(order.superclasses[index] for index in places)


def _blocks(matrix: np.ndarray, labels: Sequence[str], marks: Sequence[str], width: int) -> Iterator[RenderableType]:
    """Two characters for each entry, or for the mean over several where there is no room."""
    scale = scale_of(matrix)
    room = min(NAME, max(map(cell_len, labels)))
    step = max(1, math.ceil(2 * (len(labels) + len(set(marks))) / max(2, width - room - 3)))
    if step > 1:
        yield Text(f"  each block is the mean over {step} x {step} classes", style="dim")
        matrix, labels, marks = (
            _means(matrix, step),
            [_span(labels, start, step) for start in _starts(labels, step)],
            (),
        )
    for row, label in enumerate(labels):
        if row and marks and marks[row] != marks[row - 1]:
            yield Text()
        line = Text(f"  {_fit(label, room)} ")
        for column in range(len(labels)):
            gap = column and marks and marks[column] != marks[column - 1]
            line.append("  " if gap else "").append_text(_cell(float(matrix[row, column]), scale))
        yield line
    yield _legend(scale, room)


def _cell(value: float, scale: Scale) -> Text:
    if not math.isfinite(value):
        return Text("??", style="dim")
    return Text("  ", style=Style(bgcolor=Color.from_rgb(*scale.colour(value))))


def _legend(scale: Scale, room: int) -> Text:
    line = Text(f"\n  {'':<{room}} {scale.low:.3g} ")
    for step in range(11):
        line.append_text(_cell(scale.low + (scale.high - scale.low) * step / 10, scale))
    return line.append(f" {scale.high:.3g}")


def _numbers(matrix: np.ndarray, labels: Sequence[str], most: int) -> Iterator[RenderableType]:
    shown = labels[:most]
    room = max(map(cell_len, shown))
    yield Text(f"  {'':<{room}} " + " ".join(_fit(label, 8, right=True) for label in shown))
    for label, row in zip(shown, matrix, strict=False):
        yield Text(f"  {_fit(label, room)} " + " ".join(f"{value:8.3g}" for value in row[:most]))
    if len(shown) < len(labels):
        yield Text(f"  ... and {len(labels) - len(shown)} more rows and columns (-v for all)", style="dim")


def _means(matrix: np.ndarray, step: int) -> np.ndarray:
    starts = _starts(range(len(matrix)), step)
    sums = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    counts = np.diff([*starts, len(matrix)])
    return sums / np.outer(counts, counts)


def _starts(labels: Sequence[object], step: int) -> list[int]:
    return list(range(0, len(labels), step))


def _span(labels: Sequence[str], start: int, step: int) -> str:
    return f"{labels[start]} ..." if start + 1 < min(start + step, len(labels)) else labels[start]


def _fit(text: str, room: int, *, right: bool = False) -> str:
    """`text` in `room` columns of a terminal, where some characters take two."""
    if cell_len(text) > room:
        return f"{set_cell_size(text, room - 1)}…"
    return " " * (room - cell_len(text)) + text if right else set_cell_size(text, room)


def _between(start: tuple[int, int, int], end: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(first + (last - first) * share) for first, last in zip(start, end, strict=True))
    return red, green, blue

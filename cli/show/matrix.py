"""A matrix with a row and a column for each class: colored blocks on a terminal, numbers elsewhere."""

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
"""The most characters of a class name next to a row of blocks."""

NUMBERS = 40
"""The most rows and columns of numbers, unless all are requested."""

RED, WHITE, BLUE = (178, 24, 43), (247, 247, 247), (33, 102, 172)
"""Ends and middle of the color scales; color-blind eyes can tell them apart."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """The superclass of each class, according to `group`."""

    group: str
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The output: whether it has colors, its width in characters, the order of classes, whether to show all numbers."""

    colors: bool
    width: int
    order: Order | None
    everything: bool


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A color for each number: from white at 0 to blue, and to red for negative numbers."""

    low: float
    high: float

    def color(self, value: float) -> tuple[int, int, int]:
        """The red, green and blue of `value`."""
        bound = max(abs(self.low), abs(self.high)) or 1.0
        end = RED if self.low < 0 and value < 0 else BLUE
        share = min(1.0, max(0.0, abs(value) / bound if self.low < 0 else value / bound))
        red, green, blue = (round(first + (last - first) * share) for first, last in zip(WHITE, end, strict=True))
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
    if where.order is not None and where.order.classes == labels:
        superclasses = where.order.superclasses
        first = {name: index for index, name in reversed(list(enumerate(superclasses)))}
        order = sorted(range(len(labels)), key=lambda index: first[superclasses[index]])
        matrix, labels = matrix[np.ix_(order, order)], tuple(labels[index] for index in order)
        marks = tuple(superclasses[index] for index in order)
        yield Text(f"  classes by the superclasses of group {where.order.group!r}", style="dim")
    if where.colors:
        yield from _blocks(matrix, labels, marks, where.width)
    else:
        shown = labels if where.everything else labels[:NUMBERS]
        room = max(map(cell_len, shown))
        yield Text(f"  {'':<{room}} " + " ".join(_fit(label, 8, right=True) for label in shown))
        for label, row in zip(shown, matrix, strict=False):
            yield Text(f"  {_fit(label, room)} " + " ".join(f"{value:8.3g}" for value in row[: len(shown)]))
        if len(shown) < len(labels):
            yield Text(f"  ... and {len(labels) - len(shown)} more rows and columns (-v for all)", style="dim")


def _blocks(matrix: np.ndarray, labels: Sequence[str], marks: Sequence[str], width: int) -> Iterator[RenderableType]:
    """Two characters for each entry, or for the mean of several entries if the terminal is too narrow."""
    scale = scale_of(matrix)
    room = min(NAME, max(map(cell_len, labels)))
    step = max(1, math.ceil(2 * (len(labels) + len(set(marks))) / max(2, width - room - 3)))
    if step > 1:
        yield Text(f"  each block is the mean over {step} x {step} classes", style="dim")
        starts = list(range(0, len(labels), step))
        counts = np.diff([*starts, len(labels)])
        sums = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
        matrix, marks = sums / np.outer(counts, counts), ()
        labels = [labels[start] + (" ..." if count > 1 else "") for start, count in zip(starts, counts, strict=True)]
    for row, label in enumerate(labels):
        if row and marks and marks[row] != marks[row - 1]:
            yield Text()
        line = Text(f"  {_fit(label, room)} ")
        for column in range(len(labels)):
            gap = column and marks and marks[column] != marks[column - 1]
            line.append("  " if gap else "").append_text(_cell(float(matrix[row, column]), scale))
        yield line
    legend = Text(f"\n  {'':<{room}} {scale.low:.3g} ")
    for number in range(11):
        legend.append_text(_cell(scale.low + (scale.high - scale.low) * number / 10, scale))
    yield legend.append(f" {scale.high:.3g}")


def _cell(value: float, scale: Scale) -> Text:
    if not math.isfinite(value):
        return Text("??", style="dim")
    return Text("  ", style=Style(bgcolor=Color.from_rgb(*scale.color(value))))


def _fit(text: str, room: int, *, right: bool = False) -> str:
    """`text` in `room` columns of a terminal, where some characters take two."""
    if cell_len(text) > room:
        return f"{set_cell_size(text, room - 1)}…"
    return " " * (room - cell_len(text)) + text if right else set_cell_size(text, room)

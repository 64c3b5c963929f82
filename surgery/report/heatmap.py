"""Drawing a square matrix of classes: colours, names, values, outlines of superclasses, a colour bar on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from surgery.report.arrangement import Arrangement, Labels, Run, fit_labels
from surgery.report.arrays import Array
from surgery.report.style import POINTS, SMALL, fitted, superclass_colour, text_width, title_lines, widest

_MOST_WITH_VALUES = 12
"""Classes up to which values are printed in the cells."""

_STRIP = SMALL + 7.0
"""Points at the right that the names of superclasses take."""

_FEWEST_LETTERS = 5
"""Letters of a superclass's name, the ellipsis among them, below which it says nothing."""

_EDGES = 14.0
"""Points for tick marks and for both edges of the figure."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Colours from `low` to `high`, the colour bar's ticks and label, and spellings of a value, the best first."""

    colours: Colormap
    low: float
    high: float
    ticks: tuple[float, ...]
    label: str
    spellings: tuple[Callable[[float], str], ...]


def draw_matrix(
    figure: Figure,
    matrix: Array,
    arrangement: Arrangement,
    scale: Scale,
    *,
    title: str | None,
    axis_names: tuple[str, str] | None = None,
    beside: float = 0.0,
) -> Axes:
    """Draw `matrix` `(K, K)`, in label order, into the figure.

    `axis_names`: what rows and columns are, where they are not the same. `beside`: what is kept free at the right, as a
    share of the matrix's side.
    """
    axes = figure.add_subplot()
    shown = matrix[np.ix_(arrangement.order, arrangement.order)]
    image = axes.imshow(shown, cmap=scale.colours, vmin=scale.low, vmax=scale.high, interpolation="nearest")
    room = figure.get_figwidth() * POINTS - _EDGES - (SMALL + 4.0 if axis_names else 0.0)
    strip = _STRIP if arrangement.superclass_names and not beside else 0.0
    labels = fit_labels(arrangement, room, strip=strip, beside=beside)
    _write_names(axes, labels)
    if axis_names:
        axes.set_ylabel(axis_names[0])
        axes.set_xlabel(axis_names[1])
    if strip and labels.are_all_classes:
        _write_superclasses(axes, arrangement, labels.cell)
    _outline(axes, arrangement, labels.cell)
    _write_values(axes, shown, scale, labels.cell)
    _draw_colour_bar(image, scale, title, side=labels.cell * len(matrix))
    return axes


def _write_names(axes: Axes, labels: Labels) -> None:
    """Names beside the rows and below the columns: level where they fit, else slanted, else upright."""
    positions, names = [tick.position for tick in labels.ticks], tuple(tick.name for tick in labels.ticks)
    axes.set_yticks(positions, names, parse_math=False)
    apart = labels.cell * min((after - before for before, after in pairwise(positions)), default=1.0)
    if widest(names) + 3.0 <= apart:
        axes.set_xticks(positions, names, parse_math=False)
    elif apart >= 1.5 * SMALL:
        slanted = {"rotation": 45, "ha": "right", "va": "top", "rotation_mode": "anchor"}
        axes.set_xticks(positions, names, parse_math=False, **slanted)
    else:
        axes.set_xticks(positions, names, parse_math=False, rotation=90)


def _outline(axes: Axes, arrangement: Arrangement, cell: float) -> None:
    """One rectangle around every block of cells whose classes share a superclass."""
    if not arrangement.blocks:
        return
    corners = [_corners(row, column) for row, column in arrangement.blocks]
    line = min(1.2, 0.4 + cell / 16)
    outlines = PolyCollection(corners, facecolors="none", edgecolors="black", linewidths=line, gid="superclasses")
    outlines.set_path_effects([patheffects.withStroke(linewidth=line + 0.8, foreground="white")] if cell > 6 else [])
    outlines.set_clip_on(False)
    axes.add_collection(outlines, autolim=False)


def _corners(row: Run, column: Run) -> list[tuple[float, float]]:
    left, right, top, bottom = column.start - 0.5, column.stop - 0.5, row.start - 0.5, row.stop - 0.5
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _write_superclasses(axes: Axes, arrangement: Arrangement, cell: float) -> None:
    """The names of superclasses along the right edge, each at its longest run; nothing where these are too short."""
    largest = {run.superclass: run for run in sorted(arrangement.runs, key=lambda run: run.stop - run.start)}
    names = {run: arrangement.name_of(run) for run in sorted(largest.values(), key=lambda run: run.middle)}
    half = {run: text_width(name) / 2 + 2.0 for run, name in names.items()}
    if any(half[run] + half[after] > cell * (after.middle - run.middle) for run, after in pairwise(names)):
        names = {run: fitted(name, cell * (run.stop - run.start) - 2.0) for run, name in names.items()}
    if any(len(name) < min(_FEWEST_LETTERS, len(arrangement.name_of(run))) for run, name in names.items()):
        return
    point, across = 1.0 / (cell * len(arrangement.names)), axes.get_yaxis_transform()
    for run in arrangement.runs:
        x, ends = 1.0 + 4.0 * point, (run.start - 0.35, run.stop - 0.65)
        colour = superclass_colour(arrangement.place_of(run.superclass))
        axes.add_artist(Line2D((x, x), ends, color=colour, linewidth=2.0, transform=across, clip_on=False))
    place = {"rotation": 270, "ha": "left", "va": "center", "transform": across, "parse_math": False}
    for run, name in names.items():
        axes.text(1.0 + 6.0 * point, run.middle, name, **place)


def _write_values(axes: Axes, shown: Array, scale: Scale, cell: float) -> None:
    """The value in every cell, in the first spelling that fits; none for many classes or small cells."""
    if len(shown) > _MOST_WITH_VALUES:
        return
    spelled = (tuple(map(spell, shown.ravel().tolist())) for spell in scale.spellings)
    texts = next((texts for texts in spelled if widest(texts) + 2.0 <= cell), None)
    place = {"ha": "center", "va": "center", "in_layout": False}  # they are inside: measuring them all takes time
    for index, text in enumerate(texts or ()):
        row, column = divmod(index, len(shown))
        share = (shown[row, column] - scale.low) / (scale.high - scale.low)
        axes.text(column, row, text, color=_ink(scale.colours(float(share))), **place)


def _ink(background: tuple[float, float, float, float]) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2.1, relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


def _draw_colour_bar(image: AxesImage, scale: Scale, title: str | None, *, side: float) -> None:
    """A level bar above the matrix, as wide as it is: beside it, it would cost width, of which there is less."""
    bar = image.axes.inset_axes((0.0, 1.0 + 5.0 / side, 1.0, 5.0 / side))
    figure = image.axes.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, cax=bar, orientation="horizontal", ticks=list(scale.ticks), format="%g")
    bar.xaxis.set_ticks_position("top")
    bar.xaxis.set_label_position("top")
    bar.set_xlabel(scale.label)
    if title is not None:
        bar.set_title(title_lines(title, side + _EDGES), parse_math=False)

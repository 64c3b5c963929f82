"""Drawing a square matrix of classes: colors, names, values, outlines of superclasses, a color bar on top."""

from __future__ import annotations

import math
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

from surgery.report.arrangement import Arrangement, Labels, fit_labels
from surgery.report.arrays import Array
from surgery.report.colors import ABSENT
from surgery.report.style import POINTS, SMALL, fitted, superclass_color, text_width, title_lines, widest

_MOST_WITH_VALUES = 12
"""Values are printed in the cells of matrices with at most this many classes."""

_STRIP = SMALL + 7.0
"""Points for the names of superclasses at the right."""

_FEWEST_LETTERS = 5
"""The fewest characters of a superclass's name that are useful; shorter names are omitted."""

_EDGES = 14.0
"""Points for tick marks and for both edges of the figure."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Colors from `low` to `high`, ticks and label of the color bar, and ways to write a value, the best first.

    `absent`: why a class may have no values.
    """

    colors: Colormap
    low: float
    high: float
    ticks: tuple[float, ...]
    label: str
    spellings: tuple[Callable[[float], str], ...]
    absent: str = ""


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
    """Draw `matrix` `(K, K)`, given in label order, into the figure.

    `axis_names`: labels of rows and columns, if these differ. `beside`: the width that stays free at the right, as a
    share of the matrix's side.
    """
    axes = figure.add_subplot()
    shown = matrix[np.ix_(arrangement.order, arrangement.order)]
    image = axes.imshow(
        shown, cmap=scale.colors.with_extremes(bad=ABSENT), vmin=scale.low, vmax=scale.high, interpolation="nearest"
    )
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
    side = labels.cell * len(matrix)
    empty = [name for name, row in zip(arrangement.names, shown, strict=True) if np.isnan(row).all()]
    note = fitted(f"gray: {scale.absent} ({', '.join(empty)})", side + _EDGES) if empty else ""
    _draw_color_bar(image, scale, title, note=note, side=side)
    return axes


def _write_names(axes: Axes, labels: Labels) -> None:
    """Names left of the rows and below the columns: horizontal if they fit, else slanted, else vertical."""
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
    """A rectangle around every block of cells whose classes share a superclass."""
    if not arrangement.blocks:
        return
    corners = []
    for row, column in arrangement.blocks:
        left, right, top, bottom = column.start - 0.5, column.stop - 0.5, row.start - 0.5, row.stop - 0.5
        corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    # One collection, because 100 classes in label order have hundreds of blocks. White shows the black on dark cells.
    line = min(1.2, 0.4 + cell / 16)
    outlines = PolyCollection(corners, facecolors="none", edgecolors="black", linewidths=line, gid="superclasses")
    outlines.set_path_effects([patheffects.withStroke(linewidth=line + 0.8, foreground="white")] if cell > 6 else [])
    outlines.set_clip_on(False)
    axes.add_collection(outlines, autolim=False)


def _write_superclasses(axes: Axes, arrangement: Arrangement, cell: float) -> None:
    """The names of superclasses along the right edge, each at its longest run; nothing if the runs are too short."""
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
        color = superclass_color(arrangement.place_of(run.superclass))
        axes.add_artist(Line2D((x, x), ends, color=color, linewidth=2.0, transform=across, clip_on=False))
    place = {"rotation": 270, "ha": "left", "va": "center", "transform": across, "parse_math": False}
    for run, name in names.items():
        axes.text(1.0 + 6.0 * point, run.middle, name, **place)


def _write_values(axes: Axes, shown: Array, scale: Scale, cell: float) -> None:
    """The value in every cell, in the first spelling that fits; none for many classes or small cells."""
    if len(shown) > _MOST_WITH_VALUES:
        return
    values = shown.ravel().tolist()
    spelled = (tuple("" if math.isnan(value) else spell(value) for value in values) for spell in scale.spellings)
    texts = next((texts for texts in spelled if widest(texts) + 2.0 <= cell), None)
    place = {"ha": "center", "va": "center", "in_layout": False}  # measuring them takes time, and they never stick out
    for index, text in enumerate(texts or ()):
        row, column = divmod(index, len(shown))
        if not text:
            continue
        share = (shown[row, column] - scale.low) / (scale.high - scale.low)
        axes.text(column, row, text, color=_ink(scale.colors(float(share))), **place)


def _ink(background: tuple[float, float, float, float]) -> str:
    """Black or white, the one with the higher contrast (WCAG 2.1, relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


def _draw_color_bar(image: AxesImage, scale: Scale, title: str | None, *, note: str, side: float) -> None:
    """A horizontal bar as wide as the matrix above it: a figure for a column has more height than width to spare."""
    bar = image.axes.inset_axes((0.0, 1.0 + 5.0 / side, 1.0, 5.0 / side))
    figure = image.axes.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, cax=bar, orientation="horizontal", ticks=list(scale.ticks), format="%g")
    bar.xaxis.set_ticks_position("top")
    bar.xaxis.set_label_position("top")
    bar.set_xlabel(f"{note}\n{scale.label}" if note else scale.label, parse_math=False)
    if title is not None:
        bar.set_title(title_lines(title, side + _EDGES), parse_math=False)

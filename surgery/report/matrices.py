"""Matrices with a row and a column for each class as heat maps (Bai et al. 2021, Figs. 1-4 and 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from surgery.hierarchy.hierarchy import Hierarchy
from surgery.report.arrangement import arrange
from surgery.report.arrays import Array, Values, check_names, check_option, numbers, square
from surgery.report.heatmap import Scale, draw_matrix
from surgery.report.style import DIVERGING, Width, blank, drawing, settle

Order = Literal["label", "hierarchy"]


def correlation(
    C: Values,
    class_names: Sequence[str],
    *,
    hierarchy: Hierarchy | None = None,
    order: Order = "label",
    scale: Literal["diverging", "blues"] = "diverging",
    centered: bool = False,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The correlation matrix C `(K, K)` of eq. 7, from -1 to 1 (Figs. 1, 3 and 4).

    `hierarchy`: its superclasses are outlined. `order`: that of the labels, or by superclass. `scale`: orange to blue
    with white at 0, or the blues of the paper, which tell signs apart in gray, too. `centered`: only changes the label,
    which says which C is shown. A class whose weight vector is zero has NaN in C; it is gray, and the label names it.

    Raises InputError for other matrices, and for names or a hierarchy that do not fit the matrix.
    """
    colors = correlation_scale(scale, centered=centered)
    matrix = square(C, "C", low=-1.0, high=1.0, absent=True)
    return _figure(
        matrix, class_names, hierarchy=hierarchy, order=order, scale=colors, title=title, width=width, what="C"
    )


def feature_distance(
    F: Values,
    class_names: Sequence[str],
    *,
    hierarchy: Hierarchy | None = None,
    order: Order = "label",
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The feature distance matrix F `(K, K)` of eq. 8-9, from 0 to 1 (Fig. 2); similar classes are dark, as in C.

    Raises InputError as `correlation` does.
    """
    matrix = square(F, "F", low=0.0, high=1.0)
    scale = Scale(
        colors=matplotlib.colormaps["Blues_r"],
        low=0.0,
        high=1.0,
        ticks=(0.0, 0.5, 1.0),
        label="feature distance (each row over its largest)",
        spellings=(two_decimals, one_decimal),
    )
    return _figure(
        matrix, class_names, hierarchy=hierarchy, order=order, scale=scale, title=title, width=width, what="F"
    )


def confusion(
    M: Values,
    class_names: Sequence[str],
    *,
    hierarchy: Hierarchy | None = None,
    order: Order = "label",
    highest: float | None = None,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The attack confusion matrix M `(K, K)`, shares in [0, 1] shown in percent (Fig. 7).

    Rows are true classes, columns the predicted classes after the attack. `highest`: the share at the end of the scale,
    by default the largest one rounded up to ten percent (`confusion_scale`); pass it to make two figures comparable.
    A class without images has NaN in its row; it is gray, and the label names it.

    Raises InputError as `correlation` does.
    """
    matrix = square(M, "M", low=0.0, high=1.0, absent=True)
    end = confusion_scale([matrix]) if highest is None else min(max(highest, 0.1), 1.0)
    scale = Scale(
        colors=matplotlib.colormaps["Blues"],
        low=0.0,
        high=100 * end,
        ticks=(0.0, 50 * end, 100 * end),
        label="images of the row's class (percent)",
        spellings=(lambda value: f"{value:.0f}",),
        absent="no images",
    )
    axis_names = ("true class", "class after the attack")
    return _figure(
        100 * matrix, class_names, hierarchy=hierarchy, order=order, scale=scale, title=title, width=width,
        what="M", axis_names=axis_names,
    )  # fmt: skip


def correlation_scale(name: str, *, centered: bool) -> Scale:
    """The scale of a correlation matrix, -1 to 1, called `name`. Raises InputError for an unknown name."""
    check_option(name, ("diverging", "blues"), "scale")
    return Scale(
        colors=DIVERGING if name == "diverging" else matplotlib.colormaps["Blues"],
        low=-1.0,
        high=1.0,
        ticks=(-1.0, -0.5, 0.0, 0.5, 1.0),
        label=f"correlation of class weights ({'centered' if centered else 'plain'})",
        spellings=(two_decimals, one_decimal),
        absent="no direction of weights",
    )


def confusion_scale(matrices: Sequence[Values]) -> float:
    """The end of one scale for several matrices M: their largest share, rounded up to ten percent, 0.1 to 1."""
    largest = max(float(np.nanmax(numbers(matrix, "M"), initial=0.0)) for matrix in matrices)
    return min(max(math.ceil(10 * largest - 1e-6) / 10, 0.1), 1.0)


def two_decimals(value: float) -> str:
    """A value in [-1, 1] as `.25`: without the 0 it fits into the cells of a figure for a column."""
    return _shortened(f"{value:.2f}")


def one_decimal(value: float) -> str:
    """A value in [-1, 1] as `.3`."""
    return _shortened(f"{value:.1f}")


def _shortened(text: str) -> str:
    value = float(text)
    short = f"{value:.0f}" if value == int(value) else text.replace("0.", ".", 1)
    return "0" if not value else short  # its minus is a hyphen: a minus sign is wider than a digit


def _figure(
    matrix: Array,
    class_names: Sequence[str],
    *,
    hierarchy: Hierarchy | None,
    order: str,
    scale: Scale,
    title: str | None,
    width: Width,
    what: str,
    axis_names: tuple[str, str] | None = None,
) -> Figure:
    arrangement = arrange(check_names(class_names, len(matrix), what), hierarchy, order)
    with drawing():
        figure = blank(width)
        draw_matrix(figure, matrix, arrangement, scale, title=title, axis_names=axis_names)
        return settle(figure)

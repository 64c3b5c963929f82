"""Matrices of classes by classes as heat maps (Bai et al. 2021, Figs. 1-4 and 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from surgery.hierarchy.hierarchy import Hierarchy
from surgery.report.arrangement import arrange
from surgery.report.arrays import Array, Values, check_names, check_option, square
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

    `hierarchy` outlines its superclasses; `order` is that of the labels, or superclass by superclass. `scale`: orange
    to blue with white at 0, or the paper's blues, which also tell signs apart in grey. `centered` only says which C
    it is.

    Raises InputError for what is no such matrix, and for names or a hierarchy that do not fit it.
    """
    colours = correlation_scale(scale, centered=centered)
    matrix = square(C, "C", low=-1.0, high=1.0)
    return _figure(
        matrix, class_names, hierarchy=hierarchy, order=order, scale=colours, title=title, width=width, what="C"
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
    """The feature distance matrix F `(K, K)` of eq. 8-9, from 0 to 1 (Fig. 2); close classes are dark, as in C.

    Raises InputError as `correlation` does.
    """
    matrix = square(F, "F", low=0.0, high=1.0)
    scale = Scale(
        colours=matplotlib.colormaps["Blues_r"],
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
    """The attack confusion matrix M `(K, K)`, shares in [0, 1] shown in percent (Fig. 7): rows are attacked classes,
    columns what they are turned into.

    `highest`: the share at the end of the scale, by default the largest one rounded up to ten percent; give it to
    compare two figures. Raises InputError as `correlation` does.
    """
    matrix = square(M, "M", low=0.0, high=1.0)
    end = math.ceil(10 * float(matrix.max()) - 1e-6) / 10 if highest is None else highest
    end = min(max(end, 0.1), 1.0)
    scale = Scale(
        colours=matplotlib.colormaps["Blues"],
        low=0.0,
        high=100 * end,
        ticks=(0.0, 50 * end, 100 * end),
        label="images of the row's class (percent)",
        spellings=(lambda value: f"{value:.0f}",),
    )
    axis_names = ("true class", "class after the attack")
    return _figure(
        100 * matrix, class_names, hierarchy=hierarchy, order=order, scale=scale, title=title, width=width,
        what="M", axis_names=axis_names,
    )  # fmt: skip


def correlation_scale(name: str, *, centered: bool) -> Scale:
    """The colours of a correlation matrix, -1 to 1, and which kind it is. Raises InputError for unknown colours."""
    check_option(name, ("diverging", "blues"), "scale")
    return Scale(
        colours=DIVERGING if name == "diverging" else matplotlib.colormaps["Blues"],
        low=-1.0,
        high=1.0,
        ticks=(-1.0, -0.5, 0.0, 0.5, 1.0),
        label=f"correlation of class weights ({'centred' if centered else 'plain'})",
        spellings=(two_decimals, one_decimal),
    )


def two_decimals(value: float) -> str:
    """A value in [-1, 1] as `.25`: without the 0 there is room for it in a column's width."""
    return _shortened(f"{value:.2f}")


def one_decimal(value: float) -> str:
    """A value in [-1, 1] as `.3`."""
    return _shortened(f"{value:.1f}")


def _shortened(text: str) -> str:
    value = float(text)
    short = f"{value:.0f}" if value == int(value) else text.replace("0.", ".", 1)
    return "0" if not value else short  # with a hyphen: a minus sign is wider than a digit


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

"""The dendrogram of the classes next to their correlation matrix (Bai et al. 2021, section 4)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from surgery.errors import InputError
from surgery.hierarchy.hierarchy import Hierarchy, Merge
from surgery.report.arrangement import Arrangement, arranged, leaves
from surgery.report.arrays import Values, square
from surgery.report.heatmap import draw_matrix
from surgery.report.matrices import correlation_scale
from surgery.report.style import OTHER, Width, blank, drawing, settle, superclass_color

_SHARE = 0.28
"""The width of the dendrogram with the gap before it, as a share of the matrix's side."""


def dendrogram(
    C: Values,
    hierarchy: Hierarchy,
    *,
    scale: Literal["diverging", "blues"] = "diverging",
    centered: bool = False,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """C `(K, K)` in the order of the hierarchy's dendrogram, and the dendrogram, which grows to the right.

    Branches within one superclass have its color, the others are gray. The dashed line is the cut that gives the
    superclasses; it is omitted if no cut gives them.

    Raises InputError for a hierarchy without a dendrogram (`spectral`, or a known one), or of other classes.
    """
    if not hierarchy.merges:
        raise InputError(
            f"this hierarchy ({hierarchy.method}) has no dendrogram",
            hint="cluster with method='average', 'complete', 'single' or 'ward'",
        )
    heights = np.asarray([merge[2] for merge in hierarchy.merges])
    if not np.isfinite(heights).all() or (heights < 0).any() or (np.diff(heights) < 0).any():
        raise InputError("the merges of this hierarchy: expected finite heights >= 0 in ascending order")
    matrix = square(C, "C", low=-1.0, high=1.0)
    if len(matrix) != len(hierarchy.class_names):
        raise InputError(f"expected C of {len(hierarchy.class_names)} classes, as in the hierarchy; got {len(matrix)}")
    colors = correlation_scale(scale, centered=centered)
    arrangement = arranged(leaves(hierarchy), hierarchy.class_names, hierarchy)
    with drawing():
        figure = blank(width)
        axes = draw_matrix(figure, matrix, arrangement, colors, title=title, beside=_SHARE)
        _draw_tree(axes, hierarchy.merges, arrangement)
        return settle(figure)


def _draw_tree(axes: Axes, merges: tuple[Merge, ...], arrangement: Arrangement) -> None:
    classes = len(arrangement.order)
    tree = axes.inset_axes((1.02, 0.0, _SHARE - 0.04, 1.0))
    # By cluster number, classes first and then merges: the superclass (None for a merge that spans several), the
    # middle row, and the height.
    homes: dict[int, int | None] = dict(zip(arrangement.order, arrangement.superclass or (), strict=True))
    rows = {label: float(row) for row, label in enumerate(arrangement.order)}
    heights = dict.fromkeys(range(classes), 0.0)
    for number, (left, right, height, _) in enumerate(merges, start=classes):
        xs = (heights[left], height, height, heights[right])
        ys = (rows[left], rows[left], rows[right], rows[right])
        home = homes[number] = homes[left] if homes[left] == homes[right] else None
        color = OTHER if home is None else superclass_color(arrangement.place_of(home))
        tree.plot(xs, ys, color=color, linewidth=1.0, solid_joinstyle="miter")
        rows[number], heights[number] = (rows[left] + rows[right]) / 2, height
    tree.set_ylim(classes - 0.5, -0.5)
    tree.set_xlim(0.0, 1.08 * max(merges[-1][2], 1e-12))
    tree.set_yticks([])
    tree.xaxis.set_major_locator(MaxNLocator(2))
    tree.xaxis.set_major_formatter("{x:g}")
    tree.set_xlabel("height", ha="left", x=0.0)  # further left it would meet the names of the last columns
    tree.spines[["left", "right", "top"]].set_visible(False)
    # The superclasses are a cut of the dendrogram if all merges below it stay within a superclass.
    count = len(set(arrangement.superclass or ()))
    made = classes - count
    if count > 1 and all(homes[classes + number] is not None for number in range(made)):
        below = merges[made - 1][2] if made else 0.0
        tree.axvline((below + merges[made][2]) / 2, color="black", linewidth=0.8, linestyle=(0, (4, 2)), gid="cut")
        tree.set_xlabel(f"height\n(cut in {count})", ha="left", x=0.0)

"""The history of a training run: accuracies and loss of every epoch (Bai et al. 2021, section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from surgery.errors import InputError, suggest
from surgery.report.arrays import Array, Values, numbers
from surgery.report.style import INCHES, SUPERCLASS_COLORS, Width, blank, drawing, frozen, legend_above

_HEIGHT = 0.85
"""The height as a share of the width of a column; a figure for a page has the same height."""

_MANY = 25
"""Curves with more values than this have no markers."""


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """The style of an accuracy: hues tell clean from attacked images, solid lines held-out from training images."""

    label: str
    color: str
    style: str
    marker: str


_NATURAL, _ATTACKED = SUPERCLASS_COLORS[:2]
CURVES: Mapping[str, _Curve] = {
    "natural": _Curve(label="held out", color=_NATURAL, style="solid", marker="o"),
    "robust": _Curve(label="held out, attacked", color=_ATTACKED, style="solid", marker="s"),
    "train_natural": _Curve(label="training batches", color=_NATURAL, style="dashed", marker=""),
    "train_robust": _Curve(label="training batches, attacked", color=_ATTACKED, style="dashed", marker=""),
}
"""The accuracies of a history, by their names in the store."""

SERIES = ("loss", *CURVES)
"""The names of all series that a history can show."""


def history(
    series: Mapping[str, Values],
    *,
    best_epoch: int | None = None,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """Accuracies and loss over the epochs of a training run; `series`: a value for each epoch, by name.

    The names are those of the store: `loss`, and as shares the accuracies `natural` and `robust` of held-out images,
    `train_natural` and `train_robust` of training batches. A series may be missing, and an epoch that was not evaluated
    is NaN. `best_epoch`, counted from one, is marked.

    Raises InputError for other names, for series of different lengths, and if all values are NaN.
    """
    rows = _rows(series, best_epoch)
    shown = [name for name in CURVES if name in rows]
    losses = "loss" in rows
    with drawing():
        figure = blank(width)
        figure.set_size_inches(INCHES[width], _HEIGHT * INCHES["column"] * (1.0 if shown and losses else 0.7))
        if shown and losses:  # accuracies above the loss, which needs less room
            panels = list(figure.subplots(2, 1, sharex=True, height_ratios=(5, 3)))
        else:
            panels = [figure.add_subplot()]
        for name in shown:
            _draw(panels[0], 100.0 * rows[name], CURVES[name])
        if shown:
            panels[0].set_ylabel("accuracy (percent)")
            panels[0].set_ylim(-3.0, 103.0)
            panels[0].set_yticks([0, 25, 50, 75, 100])
        if losses:
            _draw(panels[-1], rows["loss"], _Curve(label="loss", color="black", style="solid", marker="."))
            panels[-1].set_ylabel("loss")
            low, high = panels[-1].get_ylim()
            low = min(0.0, low)
            panels[-1].set_ylim(low, high + 0.05 * (high - low))  # room for a marker at the top
            panels[-1].yaxis.set_major_locator(MaxNLocator(3))
        for axes in panels:
            axes.spines[["right", "top"]].set_visible(False)
            if best_epoch is not None:
                line = {"color": "black", "linewidth": 0.8, "linestyle": (0, (1, 1.5)), "zorder": 0, "gid": "best"}
                axes.axvline(best_epoch, label=f"best epoch: {best_epoch}", **line)
        panels[-1].set_xlabel("epoch")
        epochs = len(next(iter(rows.values())))
        margin = 0.6 if epochs == 1 else min(0.02 * epochs, 0.8)  # less than 1, or there would be a tick at epoch 0
        panels[-1].set_xlim(1 - margin, epochs + margin)
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        # Above the panels: inside them, the legend would cover the curves of some histories.
        handles, labels = panels[0].get_legend_handles_labels()
        legend_above(figure, handles, labels, title=title, columns=2)
        return frozen(figure)


def _rows(series: Mapping[str, Values], best_epoch: int | None) -> dict[str, Array]:
    """The series with at least one number."""
    for name in series:
        if name not in SERIES:
            hint = suggest(name, SERIES) or f"known series: {', '.join(SERIES)}"
            raise InputError(f"unknown series {name!r} of a history", hint=hint)
    rows = {name: numbers(values, name) for name, values in series.items()}
    shapes = {row.shape for row in rows.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        found = ", ".join(f"{name} {row.shape}" for name, row in rows.items())
        raise InputError(f"expected one number for each epoch in every series, got {found}")
    epochs = max((len(row) for row in rows.values()), default=0)
    if best_epoch is not None and not 1 <= best_epoch <= epochs:
        raise InputError(f"best_epoch: expected 1 to {epochs}, got {best_epoch}")
    kept = {name: row for name, row in rows.items() if np.isfinite(row).any()}
    if not kept:
        raise InputError("expected at least one number in the history, got none")
    return kept


def _draw(axes: Axes, row: Array, curve: _Curve) -> None:
    """One curve, which connects the epochs that have a value."""
    seen = np.isfinite(row)
    marker = curve.marker if seen.sum() <= _MANY else ""
    style: dict[str, Any] = {"color": curve.color, "linestyle": curve.style, "linewidth": 1.0, "markersize": 2.5}
    style["marker"] = "x" if seen.sum() == 1 and not marker else marker  # a line needs two points
    axes.plot(np.flatnonzero(seen) + 1, row[seen], label=curve.label, **style)

"""How robust several networks are, beside each other (Bai et al. 2021, Table 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surgery.errors import InputError
from surgery.report.arrays import Array, Values, check_names, numbers
from surgery.report.style import (
    INCHES,
    POINTS,
    SMALL,
    SUPERCLASS_COLOURS,
    Width,
    above_title,
    blank,
    drawing,
    fitted,
    legend_above,
    text_width,
)

_MARKERS = "osD^vP"
_LINE = 1.25 * SMALL
"""Points from one accuracy to the next."""

_GAP = 0.7
"""Lines that two networks are apart."""

_HANDLE = 24.0
"""Points that the mark of an attack in the legend takes, with the space around it."""

_ROUNDING = 1e-9
"""How far an interval may end beside its accuracy: at 0 and 1 it ends there."""

_LONGEST = 0.4
"""The share of the figure's width that names take at most."""


def accuracies(
    models: Sequence[str],
    attacks: Sequence[str],
    accuracy: Values,
    intervals: Values,
    *,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """Natural and robust accuracies of several networks: `accuracy` `(models, attacks)`, shares in [0, 1].

    `intervals` `(models, attacks, 2)`: the ends of their 95 % intervals, drawn as lines. An accuracy that is not a
    number is left out: that network was not put under that attack.

    Raises InputError where shapes or names do not fit, an interval does not hold its accuracy, or there is nothing.
    """
    values, ends = _checked(accuracy, intervals)
    models, attacks = check_names(models, len(values), "accuracy"), tuple(map(str, attacks))
    if len(attacks) != values.shape[1]:
        raise InputError(f"accuracy is of {values.shape[1]} attacks, but {len(attacks)} names came")
    with drawing():
        figure = blank(width)
        rows = _rows(values)
        columns = _columns(attacks, INCHES[width] * POINTS)
        figure.set_size_inches(INCHES[width], _height(rows, len(attacks), columns, title, INCHES[width]))
        axes = figure.add_subplot()
        for number, attack in enumerate(attacks):
            _draw(axes, number, attack, {model: row for (model, of), row in rows.items() if of == number}, values, ends)
        _finish(axes, models, rows, room=INCHES[width] * POINTS)
        handles, labels = axes.get_legend_handles_labels()
        legend_above(figure, handles, labels, title=title, columns=columns)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure


def _checked(accuracy: Values, intervals: Values) -> tuple[Array, Array]:
    values, ends = numbers(accuracy, "accuracy"), numbers(intervals, "intervals")
    if values.ndim != 2 or ends.shape != (*values.shape, 2):
        raise InputError(
            f"accuracy is (models, attacks) and intervals (models, attacks, 2); got {values.shape} and {ends.shape}"
        )
    known = np.isfinite(values)
    if not known.any():
        raise InputError("there is no accuracy to be drawn")
    steps = np.diff(np.concatenate([np.zeros_like(ends[..., :1]), ends[..., :1], values[..., None], ends[..., 1:]], -1))
    within = (steps >= -_ROUNDING).all(-1) & (ends[..., 1] <= 1.0)
    if not within[known].all():
        model, attack = (int(index) for index in np.argwhere(known & ~within)[0])
        raise InputError(
            f"accuracy {values[model, attack]:.6g} of model {model} under attack {attack} is not in its interval "
            f"{tuple(ends[model, attack].tolist())} within [0, 1]"
        )
    return values, ends


def _rows(values: Array) -> dict[tuple[int, int], float]:
    """Where each accuracy is drawn: one below the other, the networks a little apart."""
    places, place = {}, 0.0
    for model, row in enumerate(values):
        for attack in np.flatnonzero(np.isfinite(row)):
            places[model, int(attack)] = place
            place += 1.0
        place += _GAP
    return places


def _height(rows: dict[tuple[int, int], float], attacks: int, columns: int, title: str | None, width: float) -> float:
    """Inches for the accuracies and for the axis, the legend and the title around them."""
    said = 0 if title is None else 1 + above_title(title, width).count("\n")
    lines = max(*rows.values(), 3.0) + 2.0 + 4.0 + 1.1 * -(-attacks // columns) + 1.4 * said
    return lines * _LINE / POINTS


def _draw(axes: Axes, number: int, attack: str, rows: dict[int, float], values: Array, ends: Array) -> None:
    models, places = list(rows), np.array([*rows.values()])
    shares = 100.0 * values[models, number]
    reach = np.abs(100.0 * ends[models, number].T - shares)
    colour = SUPERCLASS_COLOURS[number % len(SUPERCLASS_COLOURS)]
    axes.errorbar(
        shares,
        places,
        xerr=reach,
        color=colour,
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=3.0,
        linestyle="none",
        elinewidth=1.0,
        capsize=1.5,
        capthick=0.8,
        label=attack,
    )
    over_lines = [patheffects.withStroke(linewidth=1.5, foreground="white")]
    place_of_text = {"textcoords": "offset points", "va": "center", "ha": "left", "path_effects": over_lines}
    for share, place, end in zip(shares, places, 100.0 * ends[models, number, 1], strict=True):
        axes.annotate(f"{share:.1f}", (end, place), (3.0, 0.0), **place_of_text)


def _finish(axes: Axes, models: tuple[str, ...], rows: dict[tuple[int, int], float], *, room: float) -> None:
    middles = {model: np.mean([row for (of, _), row in rows.items() if of == model]) for model, _ in rows}
    names = [_in_two_lines(models[model], _LONGEST * room) for model in middles]
    axes.set_yticks([*middles.values()], names, parse_math=False)
    axes.tick_params(axis="y", length=0.0)
    axes.set_ylim(max(rows.values()) + 0.8, -0.8)
    axes.set_xlim(-2.0, 102.0)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("accuracy (percent), with 95 % intervals")
    axes.spines[["right", "top", "left"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)


def _in_two_lines(name: str, room: float) -> str:
    """A name that is too long goes on below where it says which repetition it is of: `at@seed-1`."""
    if text_width(name) <= room:
        return name
    head, at, tail = name.partition("@")
    return "\n".join(fitted(line, room) for line in (head, at + tail) if line)


def _columns(attacks: tuple[str, ...], room: float) -> int:
    """How many entries of the legend stand side by side: all of them, or as many as are surely not too wide."""
    widths = [text_width(attack) + _HANDLE for attack in attacks]
    return len(attacks) if sum(widths) <= room else max(1, int(room / max(widths)))

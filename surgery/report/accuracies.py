"""Natural and robust accuracies of several networks in one figure (Bai et al. 2021, Table 3)."""

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
    SUPERCLASS_COLORS,
    Width,
    above_title,
    blank,
    drawing,
    fitted,
    frozen,
    legend_above,
    text_width,
)

_MARKERS = "osD^vP"
_LINE = 1.25 * SMALL
"""Points from one accuracy to the next."""

_GAP = 0.7
"""Lines between two networks."""

_HANDLE = 24.0
"""Points of the marker of an attack in the legend, with the space around it."""

_MOST_LINES = 3
"""The most lines of a name."""

_ROUNDING = 1e-9
"""An accuracy of 0 or 1 is an end of its interval, and rounding can put it this far outside."""

_LONGEST = 0.4
"""The largest share of the figure's width for names."""


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

    `intervals` `(models, attacks, 2)`: the ends of their 95 % intervals, drawn as lines. NaN marks an attack that
    was not run on a network; it is omitted.

    Raises InputError if shapes or names do not fit, an accuracy is outside its interval, or all accuracies are NaN.
    """
    values, ends = _checked(accuracy, intervals)
    models, attacks = check_names(models, len(values), "accuracy"), tuple(map(str, attacks))
    if len(attacks) != values.shape[1]:
        raise InputError(f"expected {values.shape[1]} names of attacks, one for each column; got {len(attacks)}")
    # The line of each accuracy, by network and attack: one below the other, with a gap between networks.
    rows: dict[tuple[int, int], float] = {}
    written = [_in_lines(model, _LONGEST * INCHES[width] * POINTS) for model in models]
    line = 0.0
    for model, row in enumerate(values):
        start, known = line, np.flatnonzero(np.isfinite(row))
        # A name of several lines needs their height, and stands at the middle of its accuracies.
        line += max(0.0, (1.0 + written[model].count("\n") - len(known)) / 2) if len(known) else 0.0
        for attack in known:
            rows[model, int(attack)] = line
            line += 1.0
        line += (line - start - len(known)) + _GAP
    with drawing():
        figure = blank(width)
        room = INCHES[width] * POINTS
        # All entries of the legend in one line, or as many columns as fit if every entry were the widest.
        widths = [text_width(attack) + _HANDLE for attack in attacks]
        columns = len(attacks) if sum(widths) <= room else max(1, int(room / max(widths)))
        said = 0 if title is None else 1 + above_title(title, INCHES[width]).count("\n")
        # Lines of the accuracies, of the axis below them, of the legend and of the title.
        bottom = max(*rows.values(), line - _GAP - 1.1) + 0.8  # the last name may be below its accuracies
        lines = max(bottom - 0.8, 3.0) + 2.0 + 4.0 + 1.1 * -(-len(attacks) // columns) + 1.4 * said
        figure.set_size_inches(INCHES[width], lines * _LINE / POINTS)
        axes = figure.add_subplot()
        for number, attack in enumerate(attacks):
            _draw(axes, number, attack, {model: row for (model, of), row in rows.items() if of == number}, values, ends)
        # The name of a network is in the middle of its lines.
        middles = {model: np.mean([row for (of, _), row in rows.items() if of == model]) for model, _ in rows}
        names = [written[model] for model in middles]
        axes.set_yticks([*middles.values()], names, parse_math=False)
        axes.tick_params(axis="y", length=0.0)
        axes.set_ylim(bottom, -0.8)
        axes.set_xlim(-2.0, 102.0)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.set_xlabel("accuracy (percent), with 95 % intervals")
        axes.spines[["right", "top", "left"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        handles, labels = axes.get_legend_handles_labels()
        legend_above(figure, handles, labels, title=title, columns=columns)
        return frozen(figure)


def _checked(accuracy: Values, intervals: Values) -> tuple[Array, Array]:
    values, ends = numbers(accuracy, "accuracy"), numbers(intervals, "intervals")
    if values.ndim != 2 or ends.shape != (*values.shape, 2):
        raise InputError(
            "expected accuracy of shape (models, attacks) and intervals of shape (models, attacks, 2), "
            f"got {values.shape} and {ends.shape}"
        )
    known = np.isfinite(values)
    if not known.any():
        raise InputError("accuracy: expected at least one number, got only NaN")
    steps = np.diff(np.concatenate([np.zeros_like(ends[..., :1]), ends[..., :1], values[..., None], ends[..., 1:]], -1))
    within = (steps >= -_ROUNDING).all(-1) & (ends[..., 1] <= 1.0)
    if not within[known].all():
        model, attack = (int(index) for index in np.argwhere(known & ~within)[0])
        raise InputError(
            f"accuracy {values[model, attack]:.6g} of model {model} under attack {attack} is not in its interval "
            f"{tuple(ends[model, attack].tolist())} within [0, 1]"
        )
    return values, ends


def _draw(axes: Axes, number: int, attack: str, rows: dict[int, float], values: Array, ends: Array) -> None:
    """The accuracies under one attack; `rows`: the line of each network that was attacked."""
    models, places = list(rows), np.array([*rows.values()])
    shares = 100.0 * values[models, number]
    axes.errorbar(
        shares,
        places,
        xerr=np.abs(100.0 * ends[models, number].T - shares),
        color=SUPERCLASS_COLORS[number % len(SUPERCLASS_COLORS)],
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


def _in_lines(name: str, room: float) -> str:
    """The name, in up to three lines: broken after commas and before an `@`; elsewhere where a part is too long."""
    lines: list[str] = []
    for part in name.replace("@", "\n@").replace(", ", ",\n").split("\n"):
        for word in [part] if text_width(part) <= room else part.split(" "):
            joined = f"{lines[-1]}{'' if word.startswith('@') else ' '}{word}" if lines else word
            if lines and text_width(joined) <= room:
                lines[-1] = joined
            else:
                lines.append(word)
    kept = lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])]
    return "\n".join(fitted(line, room) for line in kept)

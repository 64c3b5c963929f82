"""The weight matrix W: its columns as images, and its singular values (Bai et al. 2021, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from surgery.errors import InputError
from surgery.report.arrays import Array, Values, check_names, finite
from surgery.report.style import (
    DIVERGING,
    INCHES,
    POINTS,
    SMALL,
    SUPERCLASS_COLORS,
    TITLE,
    Width,
    blank,
    drawing,
    fitted_names,
    frozen,
    text_width,
    title_lines,
)

_PANEL = 0.6
"""The smallest width of a panel in inches, unless the page is full: enough for most names."""

_HIGHEST = 9.5
"""The largest height of a figure in inches: that of a page."""

_EDGE = 0.05
"""Inches between panels."""

_FOOT = {1: 0.45, 3: 0.25}
"""Inches below the panels for the scale, by channels: a color bar for one, a line of text for three."""

MOST_PANELS = 100
"""The largest number of panels on a page."""

_SHOWN = 0.995
"""The share of |W| within the scale. The rest has the color at its end, or a few weights would make all others pale."""

_FAINTEST = 1e-6
"""Singular values below this share of the largest are drawn at the bottom, with a legend that says so."""


def weights(
    weight: Values,
    class_names: Sequence[str],
    *,
    limit: float | None = None,
    title: str | None = None,
    width: Width = "page",
) -> Figure:
    """The columns of W as images: `weight` `(K, C, H, W)`, a panel for each class, on one scale from -limit to limit.

    One channel is drawn from orange to blue, with white at 0. Three channels are red, green and blue: bright where
    positive, dark where negative, gray at 0. `limit`: by default the 99.5th percentile of |W|; `weight_scale` gives one
    for several figures.

    Raises InputError for other numbers of channels, more than 100 classes, a limit that is not positive, or names that
    do not fit.
    """
    array = finite(weight, "weight")
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise InputError(
            f"weight: expected shape (classes, channels, height, width) with 1 or 3 channels, got {array.shape}"
        )
    if len(array) > MOST_PANELS:
        raise InputError(
            f"weight: expected at most {MOST_PANELS} classes on a page, got {len(array)}", hint="select some of them"
        )
    names = check_names(class_names, len(array), "weight")
    if limit is not None and not 0.0 < limit < math.inf:
        raise InputError(f"limit: expected a positive number, got {limit}")
    end = _usual(np.abs(array)) if limit is None else limit
    with drawing():
        figure = blank(width)
        for axes, image in zip(_panels(figure, array.shape, names, title), array, strict=True):
            if len(image) == 1:
                axes.imshow(image[0], cmap=DIVERGING, vmin=-end, vmax=end, interpolation="nearest")
            else:
                axes.imshow(np.clip(0.5 + 0.5 * image.transpose(1, 2, 0) / end, 0.0, 1.0), interpolation="nearest")
        _say_scale(figure, end, channels=array.shape[1])
        return figure


def _panels(figure: Figure, shape: tuple[int, ...], names: tuple[str, ...], title: str | None) -> list[Axes]:
    """A panel for each class, in as few columns as the height of a page allows; the figure becomes as high as they are.

    They are laid out here, in inches, because a constrained layout of a hundred panels takes seconds.
    """
    across, ratio = figure.get_figwidth(), shape[2] / shape[3]
    columns = _columns(len(names), across, ratio)
    wide = (across - _EDGE) / columns - _EDGE
    short = fitted_names(names, wide * POINTS)
    texts = [_in_two_lines(name, wide * POINTS) or cut for name, cut in zip(names, short, strict=True)]
    line = 1.2 * SMALL / POINTS
    step = wide * ratio + _EDGE + line * (2 if any("\n" in text for text in texts) else 1)
    said = "" if title is None else title_lines(title, across * POINTS)
    top = 0.0 if title is None else (2 + said.count("\n")) * line
    height = top + math.ceil(len(names) / columns) * step + _FOOT[shape[1]]
    figure.set_layout_engine("none")
    figure.set_size_inches(across, height)
    if title is not None:
        place = {"ha": "center", "va": "center", "fontsize": TITLE, "parse_math": False}
        figure.text(0.5, 1 - top / 2 / height, said, **place)
    panels = []
    for number, text in enumerate(texts):
        row, column = divmod(number, columns)
        left, bottom = _EDGE + column * (wide + _EDGE), height - top - (row + 1) * step
        axes = figure.add_axes((left / across, bottom / height, wide / across, wide * ratio / height))
        axes.set_title(text, fontsize=SMALL, pad=2.0, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
        panels.append(axes)
    return panels


def _columns(classes: int, across: float, ratio: float) -> int:
    """The number of columns: as many as leave panels wide enough, or more if the page gets too high."""
    for columns in range(min(classes, int(across / _PANEL)), classes + 1):
        rows = math.ceil(classes / columns)
        even = math.ceil(classes / rows)  # the same rows with fewer columns fill the last row better
        if rows * (across / even * ratio + 0.22) + 0.45 <= _HIGHEST:
            return even
    return classes


def _in_two_lines(name: str, room: float) -> str:
    """The name, in two lines if necessary; empty if it does not fit into `room` points."""
    if text_width(name) <= room:
        return name
    for place in (index for index, character in enumerate(name) if character in "_- "):
        lines = name[: place + 1], name[place + 1 :]
        if all(text_width(line) <= room for line in lines):
            return "\n".join(lines)
    return ""


def _say_scale(figure: Figure, end: float, *, channels: int) -> None:
    """Explain the scale below the panels: a color bar for one channel, a sentence for three."""
    height, foot = figure.get_figheight(), _FOOT[channels]
    if channels == 3:
        text = f"each channel: gray is 0, bright is {end:.2g} or more, dark is {-end:.2g} or less"
        figure.text(0.5, 0.5 * foot / height, text, ha="center", va="center")
        return
    axes = figure.add_axes((0.25, 0.75 * foot / height, 0.5, 0.15 * foot / height))
    colors = ScalarMappable(Normalize(-end, end), DIVERGING)
    bar = figure.colorbar(colors, cax=axes, orientation="horizontal", format="%.2g", ticks=[-end, 0.0, end])
    bar.set_label("weight")


def plain_ticks(low: float, high: float) -> list[float]:
    """Ticks of a log scale from `low` to `high`, both positive: up to about eight round numbers within or around it."""
    decades = math.log10(high / low)
    if decades < 1:
        # In a decade, a log scale is nearly a linear one.
        ends = (low, high) if high > 1.01 * low else (0.9 * low, 1.1 * high)
        return [float(tick) for tick in MaxNLocator(4).tick_values(*ends) if tick > 0]
    steps = (1.0, 2.0, 5.0) if decades <= 2 else (1.0,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, math.ceil(decades / 6))
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if 0.95 * low <= tick <= 1.05 * high]


def plain_number(value: float) -> str:
    """A tick as `0.2`, `50` or `1e-5`: never as a product with a power of ten."""
    return f"{value:.4g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def weight_scale(weights: Sequence[Values]) -> float:
    """The end of one scale for several W: the largest of their 99.5th percentiles of |W|."""
    return max(_usual(np.abs(finite(weight, "weight"))) for weight in weights)


def _usual(magnitude: Array) -> float:
    return float(np.quantile(magnitude, _SHOWN)) or float(magnitude.max()) or 1.0


def spectrum(
    singular_values: Values,
    effective_rank: float | None = None,
    *,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The singular values of W `(min(D, K),)`, largest first, on a log scale; the effective rank is marked.

    Values below a millionth of the largest are rounding errors, and are drawn hollow at the bottom.

    Raises InputError if values are negative, all zero, or not in descending order.
    """
    values = finite(singular_values, "singular_values")
    if values.ndim != 1:
        raise InputError(f"singular_values: expected one row of numbers, got shape {values.shape}")
    if (values < 0).any() or (np.diff(values) > 0).any() or not values[0] > 0:
        raise InputError("singular_values: expected numbers >= 0 in descending order, the first positive")
    if effective_rank is not None and not 1.0 - 1e-6 <= effective_rank <= len(values) + 1e-6:
        raise InputError(f"effective rank: expected 1 to {len(values)}, the number of values; got {effective_rank}")
    floor = _FAINTEST * float(values[0])
    index = np.arange(1, len(values) + 1)
    seen = values > floor
    with drawing():
        figure = blank(width)
        figure.set_size_inches(INCHES[width], 0.6 * INCHES["column"])
        axes = figure.add_subplot()
        color = SUPERCLASS_COLORS[0]
        axes.semilogy(
            index[seen],
            values[seen],
            color=color,
            marker="o",
            markersize=2.5 if len(values) <= 40 else 1.2,
            linewidth=0.8,
        )
        if not seen.all():
            faint = {"color": color, "marker": "v", "markersize": 3.0, "fillstyle": "none", "linestyle": "none"}
            axes.semilogy(index[~seen], np.full(int((~seen).sum()), floor), label="below 1e-6 of the largest", **faint)
        axes.set_xlabel("number of the singular value")
        axes.set_ylabel("singular value of W")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        margin = max(0.6 if len(values) == 1 else 0.2, 0.03 * len(values))
        axes.set_xlim(1 - min(margin, 0.9), len(values) + margin)
        ticks = plain_ticks(floor if not seen.all() else float(values[seen].min()), float(values[0]))
        bottom, top = axes.get_ylim()
        axes.set_ylim(min(bottom, 0.99 * ticks[0]), max(top, 1.01 * ticks[-1]))
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(lambda value, _: plain_number(value))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.spines[["right", "top"]].set_visible(False)
        if effective_rank is not None:
            line = {"color": "black", "linewidth": 0.8, "linestyle": (0, (4, 2)), "gid": "effective rank"}
            axes.axvline(effective_rank, label=f"effective rank {effective_rank:.1f}", **line)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        if title is not None:
            axes.set_title(title_lines(title, 0.8 * INCHES[width] * POINTS), parse_math=False)
        return frozen(figure)

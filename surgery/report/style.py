"""The style of all figures: widths, fonts, colors, and a layout that clips nothing and leaves no empty space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Literal

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from surgery.report import colors
from surgery.report.arrays import check_option

Width = Literal["column", "page"]
INCHES: Mapping[str, float] = {"column": 3.3, "page": 6.8}
"""Print widths in inches: one column of a two-column page, and the whole page."""

POINTS = 72.0
"""Points in an inch."""

SMALL = 6.5
"""The smallest font, in points at print size: names and values."""

TITLE = 7.5
"""The font of titles, in points."""

_FONT = "DejaVu Sans"
"""Part of matplotlib, so that a figure is the same on every machine."""

_STYLE: Mapping[str, Any] = {
    "font.family": _FONT,
    "font.size": SMALL,
    "axes.titlesize": TITLE,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.linewidth": 0.5,
    **{f"{axis}tick.{which}.width": 0.5 for axis in "xy" for which in ("major", "minor")},
    **{f"{axis}tick.major.size": 2.0 for axis in "xy"},
    **{f"{axis}tick.major.pad": 2.0 for axis in "xy"},
    "axes.labelpad": 2.0,
    "axes.titlepad": 4.0,
    "pdf.fonttype": 42,  # TrueType: publishers refuse the default, Type 3
    "svg.hashsalt": "surgery",  # without it, the identifiers in an SVG are random
}

SUPERCLASS_COLORS = colors.SUPERCLASSES
"""The colors of superclasses, and of curves that are few."""

OTHER = "#555555"
"""The color of branches that belong to no single superclass."""

DIVERGING: Colormap = LinearSegmentedColormap.from_list("surgery diverging", list(colors.DIVERGING))
"""From orange over white to blue, as on the terminal."""


def drawing() -> AbstractContextManager[None]:
    """Use this package's style, whatever the user's settings are; the block leaves those unchanged."""
    return matplotlib.style.context(["default", dict(_STYLE)])


def blank(width: Width) -> Figure:
    """An empty figure of this width. Raises InputError for an unknown width."""
    check_option(width, INCHES, "width")
    return Figure(figsize=(INCHES[width], 1.2 * INCHES[width]), dpi=150, layout="constrained")


def settle(figure: Figure, *, rounds: int = 8, pad: float = 0.04) -> Figure:
    """Lay the figure out and make it as high as its content, with `pad` inches at each edge; then freeze the layout.

    Matrices are square, so that the width of the figure determines their height. Other parts are sized relative to the
    matrix, and the matrix to the room that they leave: the height is found in a few rounds.
    """
    width = figure.get_figwidth()
    for _ in range(rounds):
        figure.draw_without_rendering()
        height = float(figure.get_tightbbox().height) + 2 * pad
        if abs(figure.get_figheight() - height) < pad / 4:
            break
        figure.set_size_inches(width, height)
    else:
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def frozen(figure: Figure) -> Figure:
    """Lay the figure out, and keep this layout: a constrained layout can move at every further drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def above_title(title: str, width: float) -> str:
    """The title, broken into lines that fit above a figure of `width` inches."""
    return title_lines(title, 0.95 * width * POINTS)


def legend_above(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], *, title: str | None, columns: int
) -> None:
    """Add the title and the legend above all axes, where they cover nothing."""
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        title=None if title is None else above_title(title, figure.get_figwidth()),
        title_fontproperties={"size": TITLE},
        handletextpad=0.4,
        columnspacing=1.2,
        handlelength=2.4,
    )
    legend.get_title().set_multialignment("center")


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = SMALL) -> float:
    """The width of the text when printed, in points."""
    font = FontProperties(family=_FONT, size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def widest(texts: tuple[str, ...]) -> float:
    """The width of the widest text in points."""
    return max(map(text_width, texts))


def fitted(text: str, room: float, size: float = SMALL) -> str:
    """The text, or as much of it as fits into `room` points with an ellipsis; at least one letter."""
    if text_width(text, size) <= room:
        return text
    cuts = (text[:end] + "…" for end in range(len(text) - 1, 1, -1))
    return next((cut for cut in cuts if text_width(cut, size) <= room), text[:1] + "…")


def fitted_names(names: Sequence[str], room: float) -> tuple[str, ...]:
    """Each name, or as much of it as fits into `room` points.

    Names are cut at the end; in the middle if two different names would then look the same.
    """
    cut = tuple(fitted(name, room) for name in names)
    if len(set(cut)) == len(set(names)):
        return cut
    return tuple(name if short == name else _cut_inside(name, room) for name, short in zip(names, cut, strict=True))


def _cut_inside(name: str, room: float) -> str:
    """The start and the end of a name, of about the same length, around an ellipsis."""
    cuts = (f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}" for kept in range(len(name) - 1, 2, -1))
    return next((cut for cut in cuts if text_width(cut) <= room), f"{name[:1]}…{name[-1:]}")


def title_lines(title: str, room: float) -> str:
    """The title, broken after commas where it is wider than `room` points, and at spaces where a part is."""
    lines: list[str] = []
    parts = title.replace(", ", ",\n").split("\n")
    for part in parts:
        for word in [part] if text_width(part, TITLE) <= room else part.split(" "):
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and text_width(longer, TITLE) <= room:
                lines[-1] = longer
            else:
                lines.append(word)
    return "\n".join(fitted(line, room, TITLE) for line in lines)


def superclass_color(number: int) -> str:
    """The color of superclass `number`, counted from the top of the figure; after six superclasses colors repeat."""
    return SUPERCLASS_COLORS[number % len(SUPERCLASS_COLORS)]

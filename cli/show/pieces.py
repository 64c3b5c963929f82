"""Small parts that the views share: colors, numbers, headings, tables without lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from surgery.graph.views.text import number_text

KIND_STYLES = {
    "convolution": "cyan",
    "matrix_product": "blue",
    "attention": "magenta",
    "normalized_weights": "magenta",
    "activation": "red",
    "gated_activation": "red",
    "elementwise": "red",
    "normalization": "green",
    "pooling": "yellow",
    "reduction": "yellow",
    "arithmetic": "dark_orange",
}
"""Colors of operations by their first kind, similar to those of the SVG; operations that only move values are plain."""

_LEVELS = "▁▂▃▄▅▆▇█"


def heading(text: str, remark: str = "") -> Text:
    """A bold line that opens a section, with a dim remark after it."""
    line = Text(text, style="bold")
    if remark:
        line.append(f"  {remark}", style="not bold dim")
    return Text("\n").append_text(line)


def table(
    rows: Iterable[Sequence[RenderableType]], *, right: Sequence[int] = (), head: Sequence[str] = (), indent: int = 2
) -> Padding:
    """Rows under each other without lines; the columns in `right` are aligned to the right. Nothing is ever cut off."""
    result = Table(box=None, show_header=bool(head), padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    cells = [list(row) for row in rows]
    # Rich would give an empty column no width, and then take width from another column.
    columns = [index for index in range(len(cells[0]) if cells else 0) if any(str(row[index]) for row in cells)]
    for index in columns:
        result.add_column(
            head[index] if head else "",
            justify="right" if index in right else "left",
            no_wrap=index in right,
            overflow="fold",
        )
    for row in cells:
        result.add_row(*[row[index] for index in columns])
    return Padding(result, (0, 0, 0, indent), expand=False)


def kind_style(kind: str) -> str:
    """The color of an operation's kind."""
    return KIND_STYLES.get(kind, "")


def count(number: int, noun: str) -> str:
    """`1 edit`, `2 edits`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def numbers_text(parameters: int, buffers: int) -> str:
    """`11.2 M parameters, 9.6 k in buffers`; without what there is none of."""
    learned = f"{number_text(parameters)} parameter{'s' * (parameters != 1)}" if parameters else ""
    return ", ".join(part for part in (learned, f"{number_text(buffers)} in buffers" if buffers else "") if part)


def change(before: int, after: int) -> tuple[str, str, Text]:
    """The cells of a table of counts: before, after, and the difference in color."""
    style = "red" if after < before else "green"
    return str(before), str(after), Text(f"{after - before:+}" if after != before else "", style=style)


def shape(sizes: Sequence[int | str]) -> str:
    """`3x32x32`."""
    return "x".join(str(size) for size in sizes)


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """Values over the network in one line, on a logarithmic scale; zeros and values that are not finite are marked."""
    if len(values) > width:
        values = [values[index * len(values) // width] for index in range(width)]
    logs = [math.log10(value) if math.isfinite(value) and value > 0 else None for value in values]
    known = [value for value in logs if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    span = max(high - low, 1.0)
    return "".join("!" if value is None else _LEVELS[round((value - low) / span * 7)] for value in logs)

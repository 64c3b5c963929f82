"""The views of `surgery results`: groups and variables of stores."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.store import Group, GroupSummary, Variable
from surgery_cli.console import WIDE, console
from surgery_cli.show.matrix import Order, Surface, matrix_view
from surgery_cli.show.pieces import heading, shape, table

ENTRIES = 12
"""The most entries of an array in one line."""

LETTERS = 72
"""The most characters of these entries."""

ROWS = 20
"""The most rows of a table of names without --verbose."""


def summary_dict(summary: GroupSummary) -> dict[str, Any]:
    """A group without its numbers, as plain values."""
    variables = {
        name: {"dimensions": list(summary.dimensions[name]), "shape": list(sizes)}
        for name, sizes in summary.shapes.items()
    }
    return {
        "name": summary.name,
        "kind": summary.kind,
        "written": summary.written,
        "bytes": summary.size,
        "variables": variables,
    }


def listing(summaries: Sequence[GroupSummary]) -> Iterator[RenderableType]:
    """A row for each group."""
    if not summaries:
        yield Text("The store has no groups.", style="dim")
        return
    rows = [
        (
            Text(item.name, style="bold"),
            item.kind,
            item.written,
            size(item.size),
            ", ".join(f"{name} {shape(sizes)}".rstrip() for name, sizes in item.shapes.items()),
        )
        for item in summaries
    ]
    yield table(rows, right=(3,), head=("group", "kind", "written", "size", "variables"))


def size(number: int) -> str:
    """A number of bytes, as `12.3 KiB`."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def surface(order: Order | None, *, verbose: bool) -> Surface:
    """The capabilities of stdout: colors on a terminal, unless NO_COLOR is set."""
    target = console(sys.stdout)
    colors = target.is_terminal and not target.no_color and target.color_system is not None
    return Surface(
        colors=colors,
        width=target.width if target.is_terminal else WIDE,
        order=order,
        everything=verbose,
        palette=target.color_system == "256",
    )


def group_view(group: Group, where: Surface) -> Iterator[RenderableType]:
    """A group: its attributes, variables, matrices of classes and provenance."""
    yield heading(group.name, group.kind)
    if group.attributes:
        yield table([(Text(name, style="dim"), str(value)) for name, value in group.attributes.items()])
    rows = [
        (
            Text(item.name, style="cyan"),
            ", ".join(item.dimensions),
            shape(item.data.shape),
            _gist(group, item),
            item.long_name,
        )
        for item in group.variables
    ]
    yield table(rows, head=("variable", "dimensions", "shape", "values", "what"))
    for item in group.variables:
        if class_labels(group, item) is not None or _named_axes(group, item) is not None:
            yield from variable_view(group, item, where)
    if group.provenance:
        yield heading("provenance")
        texts = {name: text.splitlines() or [""] for name, text in group.provenance.items()}
        yield table(
            [
                (Text(name, style="dim"), lines[0] + (f" ... ({len(lines)} lines)" if len(lines) > 1 else ""))
                for name, lines in texts.items()
            ]
        )


def variable_view(group: Group, variable: Variable, where: Surface) -> Iterator[RenderableType]:
    """One variable: a matrix of classes as blocks or as a table, texts as a list, any other array as numbers."""
    yield heading(f"{group.name}/{variable.name}", variable.long_name)
    labels = class_labels(group, variable)
    if labels is not None:
        yield from matrix_view(np.asarray(variable.data, dtype=np.float64), labels, where)
        return
    named = _named_axes(group, variable)
    if named is not None:
        yield from _named_table(variable, named, where)
        return
    if variable.data.dtype.kind == "U" and variable.data.ndim == 1:
        texts = [Text(text) for text in variable.data.tolist()]
        found = [item.values for item in group.coordinates if item.name == variable.dimensions[0]]
        names = [[Text(str(name), style="cyan")] for name in np.asarray(found[0])] if found else [[] for _ in texts]
        yield table([(*name, text) for name, text in zip(names, texts, strict=True)])
        return
    with np.printoptions(threshold=sys.maxsize if where.everything else 1000, linewidth=min(where.width, 120)):
        yield Padding(Text(str(variable.data)), (0, 0, 0, 2))
    if variable.comment:
        yield Padding(Text(variable.comment, style="dim"), (0, 0, 0, 2))


def class_labels(group: Group, variable: Variable) -> tuple[str, ...] | None:
    """The labels of a numeric matrix whose rows and columns have the same labels, or None for other variables."""
    if variable.data.ndim != 2 or variable.data.dtype.kind == "U":
        return None
    known = {item.name: tuple(map(str, np.asarray(item.values))) for item in group.coordinates}
    rows, columns = (known.get(name) for name in variable.dimensions)
    return rows if rows is not None and rows == columns else None


def _labels(group: Group, dimension: str) -> tuple[str, ...] | None:
    """The names along a dimension; None if it has none, or numbers."""
    for item in group.coordinates:
        if item.name == dimension and np.asarray(item.values).dtype.kind == "U":
            return tuple(map(str, np.asarray(item.values)))
    return None


def _named_axes(group: Group, variable: Variable) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names along both axes of a numeric matrix, such as attacks and classes; None for other variables."""
    if variable.data.ndim != 2 or variable.data.dtype.kind == "U" or variable.flag_meanings:
        return None
    rows, columns = (_labels(group, name) for name in variable.dimensions)
    return None if rows is None or columns is None else (rows, columns)


def _named_table(
    variable: Variable, named: tuple[tuple[str, ...], tuple[str, ...]], where: Surface
) -> Iterator[RenderableType]:
    """A matrix with names on both sides; classes are rows, because there may be many."""
    data, (rows, columns) = variable.data, named
    if variable.dimensions[1] == "class":
        data, rows, columns = data.T, columns, rows
    shown = len(rows) if where.everything else ROWS
    cells = [(Text(row, style="cyan"), *map(_number, entries)) for row, entries in zip(rows, data, strict=True)]
    yield table(cells[:shown], head=("", *columns), right=tuple(range(1, len(columns) + 1)))
    if len(rows) > shown:
        yield Padding(Text(f"{len(rows) - shown:,} more (--verbose)", style="dim"), (0, 0, 0, 2))


def _number(entry: Any) -> str:
    return f"{float(entry):.4g}"


def _gist(group: Group, variable: Variable) -> str:
    """A few entries, with their names if they have names, or the range of many."""
    data = variable.data
    if data.dtype.kind == "U" or variable.flag_meanings:
        words = _words(variable)
        # As many words as fit into a line, but at least one.
        shown = list(itertools.accumulate(words[:ENTRIES], lambda line, word: f"{line}, {word}"))
        fitting = [line for line in shown if len(line) <= LETTERS] or [shorten(words[0], LETTERS, placeholder=" ...")]
        return fitting[-1] if len(fitting) == len(words) else f"{fitting[-1]}, ..."
    if data.size == 1:
        return f"{data.reshape(-1)[0]:.6g}"
    labels = _labels(group, variable.dimensions[0]) if data.ndim == 1 else None
    if labels is not None:
        line = ", ".join(f"{name} {_number(entry)}" for name, entry in zip(labels, data, strict=True))
        if len(line) <= LETTERS:
            return line
    finite = data[np.isfinite(data)]
    if not finite.size:
        return "no finite values"
    odd = "" if finite.size == data.size else f", {data.size - finite.size} not finite"
    return f"{finite.min():.4g} to {finite.max():.4g}{odd}"


def _words(variable: Variable) -> list[str]:
    """The entries as text; for flags, their meanings."""
    meanings: Mapping[int, str] = dict(enumerate(variable.flag_meanings or ()))
    return [meanings.get(entry, str(entry)) for entry in variable.data.reshape(-1).tolist()]

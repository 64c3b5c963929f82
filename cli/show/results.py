"""What is in a store, for people."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.store import Comparison, Group, GroupSummary, Variable
from surgery_cli.console import WIDE, console
from surgery_cli.show.matrix import Order, Surface, matrix_view
from surgery_cli.show.pieces import count, heading, shape, table

ENTRIES = 12
"""Entries of an array that a line shows."""

LETTERS = 72
"""Letters of text that it shows of them."""


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
    """One row for each group."""
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
    """`12.3 KiB`."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def surface(order: Order | None, *, verbose: bool) -> Surface:
    """What stdout can show: colours on a terminal, unless NO_COLOR is set."""
    target = console(sys.stdout)
    colours = target.is_terminal and not target.no_color and target.color_system is not None
    return Surface(colours=colours, width=target.width if target.is_terminal else WIDE, order=order, everything=verbose)


def superclasses(groups: Sequence[Group]) -> Order | None:
    """The superclass of each class, from the first group that has one for each."""
    for group in groups:
        for variable in group.variables:
            if variable.name == "superclass" and variable.dimensions == ("class",):
                labels = tuple(str(name) for name in group["class"])
                return Order(group=group.name, classes=labels, superclasses=tuple(_words(variable)))
    return None


def group_view(group: Group, where: Surface) -> Iterator[RenderableType]:
    """A group: its attributes, its variables, its matrices over classes, its provenance."""
    yield heading(group.name, group.kind)
    if group.attributes:
        yield table([(Text(name, style="dim"), str(value)) for name, value in group.attributes.items()])
    rows = [
        (Text(item.name, style="cyan"), ", ".join(item.dimensions), shape(item.data.shape), _gist(item), item.long_name)
        for item in group.variables
    ]
    yield table(rows, head=("variable", "dimensions", "shape", "values", "what"))
    for item in group.variables:
        if class_labels(group, item) is not None:
            yield from variable_view(group, item, where)
    if group.provenance:
        yield heading("provenance")
        yield table([(Text(name, style="dim"), _first_line(text)) for name, text in group.provenance.items()])


def variable_view(group: Group, variable: Variable, where: Surface) -> Iterator[RenderableType]:
    """One variable: a matrix over classes as blocks or as a table, anything else as its numbers."""
    yield heading(f"{group.name}/{variable.name}", variable.long_name)
    labels = class_labels(group, variable)
    if labels is not None:
        yield from matrix_view(np.asarray(variable.data, dtype=np.float64), labels, where)
        return
    if variable.data.dtype.kind == "U" and variable.data.ndim == 1:
        yield _text_table(group, variable)
        return
    with np.printoptions(threshold=sys.maxsize if where.everything else 1000, linewidth=min(where.width, 120)):
        yield Padding(Text(str(variable.data)), (0, 0, 0, 2))
    if variable.comment:
        yield Padding(Text(variable.comment, style="dim"), (0, 0, 0, 2))


def _text_table(group: Group, variable: Variable) -> RenderableType:
    """Texts one below the other, with the labels of their dimension if it has some."""
    texts = [Text(text) for text in variable.data.tolist()]
    labels = [np.asarray(item.values).tolist() for item in group.coordinates if item.name == variable.dimensions[0]]
    if not labels:
        return table([(text,) for text in texts])
    return table([(Text(str(label), style="cyan"), text) for label, text in zip(labels[0], texts, strict=True)])


def class_labels(group: Group, variable: Variable) -> tuple[str, ...] | None:
    """The names of both axes of a matrix of classes against classes, or None where it is not one."""
    if variable.data.ndim != 2 or variable.data.dtype.kind == "U":
        return None
    known = {item.name: tuple(map(str, np.asarray(item.values))) for item in group.coordinates}
    rows, columns = (known.get(name) for name in variable.dimensions)
    return rows if rows is not None and rows == columns else None


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """A comparison as plain values."""
    return {
        "same": found.same,
        "only_first": list(found.only_first),
        "only_second": list(found.only_second),
        "differences": [asdict(item) for item in found.differences],
        "largest": found.largest,
    }


def comparison_view(found: Comparison, first: Path, second: Path) -> Iterator[RenderableType]:
    """What differs, and by how much."""
    for path, names in ((first, found.only_first), (second, found.only_second)):
        if names:
            yield heading(f"only in {path}", count(len(names), "group"))
            yield Padding(Text(", ".join(names)), (0, 0, 0, 2))
    if found.largest:
        yield heading("largest absolute difference")
        yield table([(name, _amount(value)) for name, value in found.largest.items()], right=(1,))
    if found.differences:
        yield heading("what differs")
        yield table([(f"{item.group}/{item.name}", item.what, item.found) for item in found.differences])
    verdict, style = ("The results are the same.", "bold green") if found.same else ("The results differ.", "bold red")
    yield Text(f"\n{verdict}", style=style)


def _amount(value: float) -> Text:
    return Text("0", style="dim") if value == 0 else Text(f"{value:.3g}", style="red")


def _gist(variable: Variable) -> str:
    """A few entries, or the range of many."""
    data = variable.data
    if data.dtype.kind == "U" or variable.flag_meanings:
        return _listed(_words(variable))
    if data.size == 1:
        return f"{data.reshape(-1)[0]:.6g}"
    finite = data[np.isfinite(data)]
    if not finite.size:
        return "none is finite"
    odd = "" if finite.size == data.size else f", {data.size - finite.size} not finite"
    return f"{finite.min():.4g} to {finite.max():.4g}{odd}"


def _listed(words: list[str]) -> str:
    """The first words, as many as a line has room for; one at least."""
    shown = list(itertools.accumulate(words[:ENTRIES], lambda line, word: f"{line}, {word}"))
    fitting = [line for line in shown if len(line) <= LETTERS] or [shorten(words[0], LETTERS, placeholder=" ...")]
    return fitting[-1] if len(fitting) == len(words) else f"{fitting[-1]}, ..."


def _words(variable: Variable) -> list[str]:
    meanings: Mapping[int, str] = dict(enumerate(variable.flag_meanings or ()))
    return [meanings.get(entry, str(entry)) for entry in variable.data.reshape(-1).tolist()]


def _first_line(text: str) -> str:
    lines = text.splitlines() or [""]
    return lines[0] if len(lines) == 1 else f"{lines[0]} ... ({len(lines)} lines)"

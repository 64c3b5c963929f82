"""Printing of two runs side by side: what differs in results and parameters, and paired tests of accuracies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.run import ChangedParameter, PairedAccuracy
from surgery.stages.findings import chance_text
from surgery.store import Comparison
from surgery_cli.show.pieces import count, heading, table

LETTERS = 40
"""The most characters of a parameter's value."""


def comparison_dict(
    found: Comparison, accuracies: Sequence[PairedAccuracy], parameters: Sequence[ChangedParameter]
) -> dict[str, Any]:
    """A comparison as plain values."""
    return {
        "same": found.same,
        "only_first": list(found.only_first),
        "only_second": list(found.only_second),
        "parameters": [asdict(item) for item in parameters],
        "accuracies": [asdict(item) for item in accuracies],
        "differences": [asdict(item) for item in found.differences],
        "largest": found.largest,
    }


def comparison_view(
    found: Comparison,
    accuracies: Sequence[PairedAccuracy],
    parameters: Sequence[ChangedParameter],
    *,
    first: Path,
    second: Path,
) -> Iterator[RenderableType]:
    """Parameters and accuracies side by side, then every difference."""
    for path, names in ((first, found.only_first), (second, found.only_second)):
        if names:
            yield heading(f"only in {path}", count(len(names), "group"))
            yield Padding(Text(", ".join(names)), (0, 0, 0, 2))
    if parameters:
        yield heading("parameters that differ")
        yield table(
            [(f"{item.group}: {item.name}", _value(item.first), _value(item.second)) for item in parameters],
            head=("", "A", "B"),
        )
    if accuracies:
        yield heading("accuracies on the same images", "B - A in percentage points with its 95 % interval")
        yield table(
            [_accuracy_row(item) for item in accuracies],
            head=("group", "attack", "images", "A", "B", "B - A", "only A", "only B", "p (McNemar)"),
            right=(2, 3, 4, 6, 7, 8),
        )
    if found.largest:
        yield heading("largest absolute difference")
        none = Text("0", style="dim")
        yield table(
            [(name, Text(f"{value:.3g}", style="red") if value else none) for name, value in found.largest.items()],
            right=(1,),
        )
    if found.differences:
        yield heading("differences")
        yield table([(f"{item.group}/{item.name}", item.what, item.found) for item in found.differences])
    verdict, style = ("The results are the same.", "bold green") if found.same else ("The results differ.", "bold red")
    yield Text(f"\n{verdict}", style=style)


def _accuracy_row(item: PairedAccuracy) -> tuple[RenderableType, ...]:
    low, high = item.interval
    style = "default" if item.p_value >= 0.05 else "green" if item.difference > 0 else "red"
    difference = Text(f"{100 * item.difference:+.1f}", style=style)
    return (
        Text(item.group, style="bold"),
        item.attack.replace("_", " "),
        f"{item.images:,}",
        f"{item.first:.1%}",
        f"{item.second:.1%}",
        difference.append(f"  {100 * low:+.1f} to {100 * high:+.1f}", style="dim"),
        f"{item.only_first:,}",
        f"{item.only_second:,}",
        chance_text(item.p_value),
    )


def _value(text: str) -> str:
    return shorten(text, LETTERS, placeholder=" ...") if text else "-"

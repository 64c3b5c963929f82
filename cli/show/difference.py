"""The difference between two graphs as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from surgery.graph.difference import Difference
from surgery_cli.show.pieces import change, count, heading, table

NODES = 40
"""Rows of a list of nodes unless all are asked for."""


def difference_view(difference: Difference, *, verbose: bool) -> Iterator[RenderableType]:
    """Counts per operation, edits by rule, and every removed, added or changed node."""
    changed = {name: pair for name, pair in difference.counts.items() if pair[0] != pair[1]}
    if difference.empty:
        yield Text("The graphs are the same.", style="bold green")
        return
    if changed:
        yield heading("Operations")
        yield table(
            [(name, *change(*pair)) for name, pair in changed.items()],
            right=(1, 2, 3),
            head=("", "before", "after", ""),
        )
    if difference.by_rule:
        yield heading("By rule")
        rows = [(rule, f"-{removed}", f"+{added}") for rule, (removed, added) in difference.by_rule.items()]
        yield table(rows, right=(1, 2))
    for title, sign, style, nodes in (
        ("Removed", "-", "red", difference.removed),
        ("Added", "+", "green", difference.added),
        ("Changed", "~", "yellow", difference.changed),
    ):
        if nodes:
            yield heading(title, count(len(nodes), "operation"))
            shown = nodes if verbose else nodes[:NODES]
            yield table(
                [
                    (
                        Text(f"{sign} {node.name}", style=style),
                        node.operation,
                        node.detail,
                        Text(f"by {node.rule}" if node.rule else "", style="dim"),
                    )
                    for node in shown
                ]
            )
            if len(shown) < len(nodes):
                yield Text(f"  ... and {len(nodes) - len(shown)} more (-v for all)", style="dim")
    for title, names in (
        ("Removed weights", tuple(difference.tensors_removed)),
        ("Added weights", tuple(difference.tensors_added)),
        ("Changed weights", tuple(difference.tensors_changed)),
    ):
        if names:
            yield heading(title, count(len(names), "tensor"))
            first = names if verbose else names[:NODES]
            yield Text(f"  {', '.join(first)}{', ...' if len(first) < len(names) else ''}")
    yield Text(f"\n{count(difference.same, 'operation')} the same in both", style="dim")

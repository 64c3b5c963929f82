"""Results of `linearize` and `apply`, or of a dry run: counts, edits by rule, near misses, and the promise."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from surgery.errors import SurgeryError
from surgery.graph import Edit, Graph, computing, operation_name
from surgery.linear import AffineCertificate, Comparison, Offender
from surgery.rewrite import NearMiss, Plan
from surgery_cli.loading import Opened
from surgery_cli.show.certificate import certificate_dict, certificate_view, offenders_view
from surgery_cli.show.pieces import change, count, heading, kind_style, numbers_text, shape, table

NEAR_MISSES = 8
"""Groups of near misses printed unless all are asked for."""

RUNGS = {
    "symbolic": "traced symbolically",
    "symbolic-with-values": "traced symbolically with its sizes",
    "export": "traced by torch.export",
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The edits of a graph, and whether the result keeps the promise.

    A dry run has no checks, only the `offenders` that would be left. `failure` says which promise is broken, or which
    rule did not fire as it expects.
    """

    opened: Opened
    plan: Plan
    after: Graph
    certificate: AffineCertificate | None = None
    comparison: Comparison | None = None
    offenders: tuple[Offender, ...] = ()
    failure: SurgeryError | None = None
    written: Path | None = None


def as_dict(result: Operation) -> dict[str, Any]:
    """The operation as plain values."""
    return {
        "model": result.opened.as_dict(),
        "rules": {"name": result.plan.rules.name, "promise": result.plan.rules.promise},
        "counts": {name: {"before": old, "after": new} for name, (old, new) in _counts(result).items()},
        "edits_by_rule": result.plan.counts(),
        "edits": [dataclasses.asdict(edit) for edit in result.plan.edits],
        "near_misses": [dataclasses.asdict(miss) for miss in result.plan.near_misses],
        "unexpected": result.plan.unexpected,
        "offenders": [vars(offender) for offender in result.offenders],
        "certificate": None if result.certificate is None else certificate_dict(result.certificate),
        "comparison": None if result.comparison is None else vars(result.comparison) | {"same": result.comparison.same},
        "written": None if result.written is None else str(result.written),
    }


def done(result: Operation, *, verbose: bool) -> Iterator[RenderableType]:
    """The sections for an operation that was carried out."""
    yield from model_view(result.opened)
    yield from _counts_view(result)
    edits = _by_rule(result.plan.edits)
    yield heading("Edits by rule", f"{result.plan.rules.name}: {count(len(result.plan.edits), 'edit')}")
    if edits:
        rows = [(rule, str(len(group)), Text(group[0].ruleset, style="dim")) for rule, group in edits.items()]
        yield table(rows, right=(1,))
    # Where the promise is kept, nothing is missing: near misses explain what rules left.
    kept = result.failure is None and result.plan.rules.promise is not None
    if verbose or not kept:
        yield from _near_misses_view(result, verbose=verbose)
    if result.certificate is not None:
        yield from certificate_view(result.after, result.certificate, verbose=verbose)
    elif result.comparison is not None:
        same, found = result.comparison.same, result.comparison
        title = heading("Outputs: ")
        title.append("the same" if same else "not the same", style="bold green" if same else "bold red")
        yield title
        yield Text(
            f"  largest difference {found.difference:.1e} of the largest output, in float64"
            f" (at most {found.tolerance:.0e})"
        )
    else:
        yield heading("Certificate: none", f"{result.plan.rules.name} promises nothing about its result")
    if result.written is not None:
        yield Text(f"\nWritten: {result.written} ({result.written.stat().st_size / 1e6:.3g} MB)")


def planned(result: Operation, *, verbose: bool) -> Iterator[RenderableType]:
    """The sections for a dry run: every edit, and nothing about the promise."""
    yield from model_view(result.opened)
    yield from _counts_view(result)
    yield heading(f"Plan of {result.plan.rules.name}", f"{count(len(result.plan.edits), 'edit')}, none carried out")
    for rule, edits in _by_rule(result.plan.edits).items():
        yield Text(f"  {rule}", style="bold").append(f"  {len(edits)}", style="not bold dim")
        yield table([_edit_row(edit) for edit in edits], indent=4)
    yield from _near_misses_view(result, verbose=verbose)
    if result.offenders:
        yield heading("Left by these edits", "these operations would break the promise of an affine result")
        yield from offenders_view(result.offenders, verbose=verbose)
    if result.written is not None:
        yield Text(f"\nWritten: {result.written}")


def model_view(opened: Opened) -> Iterator[RenderableType]:
    """Two lines on the model and how it was traced."""
    graph, facts = opened.graph, opened.as_dict()
    line = Text(graph.model_name, style="bold")
    line.append(f"  {opened.source}", style="not bold")
    yield line
    sizes = ", ".join((count(facts["operations"], "operation"), numbers_text(facts["parameters"], facts["buffers"])))
    yield Text(f"  input {shape(graph.input_shape)}, {sizes}, {RUNGS.get(graph.rung, graph.rung)}")


def _counts(result: Operation) -> dict[str, tuple[int, int]]:
    """How often each operation occurs before and after, in the order of the graph."""
    before, after = (Counter(map(operation_name, computing(graph))) for graph in _graphs(result))
    return {name: (before[name], after[name]) for name in {**before, **after}}


def _counts_view(result: Operation) -> Iterator[RenderableType]:
    counts = _counts(result)
    changed = {name: pair for name, pair in counts.items() if pair[0] != pair[1]}
    before, after = sum(pair[0] for pair in counts.values()), sum(pair[1] for pair in counts.values())
    kinds = {str(node.meta["operation"]): str(node.meta["kind"]) for g in _graphs(result) for node in g.graph.nodes}
    rows = [(Text(name, style=kind_style(kinds[name])), *change(*pair)) for name, pair in changed.items()]
    unchanged = sum(pair[1] for name, pair in counts.items() if name not in changed)
    if unchanged and changed:
        rows.append((Text("unchanged", style="dim"), *change(unchanged, unchanged)))
    rows.append((Text("all", style="bold"), *change(before, after)))
    yield heading("Operations", "" if changed else "none changed")
    yield table(rows, right=(1, 2, 3), head=("", "before", "after", ""))


def _graphs(result: Operation) -> tuple[Graph, Graph]:
    return result.opened.graph, result.after


def _by_rule(edits: Sequence[Edit]) -> dict[str, list[Edit]]:
    groups: dict[str, list[Edit]] = {}
    for edit in edits:
        groups.setdefault(edit.rule, []).append(edit)
    return groups


def _edit_row(edit: Edit) -> tuple[RenderableType, ...]:
    """The position, the operations removed and those added; if none is added, the node that is read instead."""
    what = Text(" ".join(operation for _, operation in edit.removed), style="red").append("  ->  ", style="default")
    what.append(" ".join(operation for _, operation in edit.added), style="green")
    what.append("" if edit.added else edit.into, style="default")
    source = f"{edit.file}:{edit.line}" if edit.file else ""
    return edit.module_path or edit.at, what, Text(source, style="dim")


def _near_misses_view(result: Operation, *, verbose: bool) -> Iterator[RenderableType]:
    groups = _grouped(result)
    if not groups:
        return
    shown = groups if verbose else groups[:NEAR_MISSES]
    yield heading("Near misses", "operations that a rule looks for, and why it did not match them")
    rows = [
        (first.rule, f"{len(misses)}x", first.reason, Text(f"as {first.module_path or first.at}", style="dim"))
        for misses in shown
        for first in misses[:1]
    ]
    yield table(rows, right=(1,))
    if len(shown) < len(groups):
        yield Text(f"  ... and {count(len(groups) - len(shown), 'other reason')} (-v for all)", style="dim")


def _grouped(result: Operation) -> list[list[NearMiss]]:
    """Near misses of one rule for one reason together; first those at nodes that are not affine, then the nearest."""
    names = {node.name for node in result.after.graph.nodes} | {miss.module_path for miss in result.plan.near_misses}
    groups: dict[tuple[str, str], list[NearMiss]] = {}
    for miss in result.plan.near_misses:
        # Reasons name nodes; without the names, one reason at several nodes is one group.
        reason = re.sub(r"[\w.]+", lambda word: "*" if word[0] in names else word[0], miss.reason)
        groups.setdefault((miss.rule, reason), []).append(miss)
    offending = {offender.node for offender in result.certificate.offenders} if result.certificate else set[str]()

    def importance(misses: list[NearMiss]) -> tuple[bool, int, int]:
        guilty = any(miss.at in offending for miss in misses)
        return not guilty, -max(miss.depth for miss in misses), -len(misses)

    return sorted(groups.values(), key=importance)

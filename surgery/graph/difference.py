"""Common and different nodes of two graphs: by the log where one was made from the other, else by alignment."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.graph.alignment import Pair, align
from surgery.graph.graph import Graph
from surgery.graph.nodes import computing, nodes_in, operation_name, operation_of
from surgery.graph.views.svg import draw
from surgery.graph.views.text import Line, lines, named_operands, settings, shape_text, value_text


@dataclass(frozen=True, kw_only=True)
class Item:
    """A node that is in one graph only, or different in the two.

    `rule` made or removed it, as far as that is known; `detail` says what changed, as in `kernel_size 3 -> 5`. A node
    that changed has the name that it had before.
    """

    name: str
    operation: str
    module_path: str
    rule: str | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The differences between two graphs.

    `same` counts the unchanged operations; `counts` holds how often each operation occurs before and after; `by_rule`
    how many nodes each rule removed and added. Tensors are compared by name.
    """

    removed: tuple[Item, ...]
    added: tuple[Item, ...]
    changed: tuple[Item, ...]
    same: int
    counts: Mapping[str, tuple[int, int]]
    by_rule: Mapping[str, tuple[int, int]]
    tensors_removed: tuple[str, ...]
    tensors_added: tuple[str, ...]
    tensors_changed: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True if nodes and numbers are the same."""
        nodes = self.removed or self.added or self.changed
        return not (nodes or self.tensors_removed or self.tensors_added or self.tensors_changed)


def diff(before: Graph, after: Graph) -> Difference:
    """Compare two graphs, node by node.

    A node that reads another node only because a rule added or removed one between them is the same node.
    `diff(after, before)` is the mirror image of `diff(before, after)`.
    """
    pairs = align(before, after)
    calls = [pair for pair in pairs if pair.node.op == "call_function"]
    removed = tuple(_item(pair) for pair in calls if pair.after is None)
    added = tuple(_item(pair) for pair in calls if pair.before is None)
    details = _details(pairs, before, after)
    old, new = before.tensors(), after.tensors()
    return Difference(
        removed=removed,
        added=added,
        changed=tuple(_item(pair, details[pair]) for pair in pairs if pair in details),
        same=sum(pair.common and pair not in details for pair in calls),
        counts=_both(map(operation_name, computing(before)), map(operation_name, computing(after))),
        by_rule=_both((item.rule for item in removed if item.rule), (item.rule for item in added if item.rule)),
        tensors_removed=tuple(name for name in old if name not in new),
        tensors_added=tuple(name for name in new if name not in old),
        tensors_changed=tuple(sorted(name for name in old.keys() & new.keys() if not _equal(old[name], new[name]))),
    )


def as_dict(difference: Difference) -> dict[str, Any]:
    """The difference as plain data for json.dumps."""
    result = dataclasses.asdict(difference)
    result["counts"] = {name: {"before": a, "after": b} for name, (a, b) in difference.counts.items()}
    result["by_rule"] = {name: {"removed": a, "added": b} for name, (a, b) in difference.by_rule.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in result.items()}


def _item(pair: Pair, detail: str = "") -> Item:
    node = pair.node
    path, operation = node.meta["module_path"], operation_name(node)
    return Item(name=node.name, operation=operation, module_path=path, rule=pair.rule, detail=detail)


def _details(pairs: Sequence[Pair], before: Graph, after: Graph) -> dict[Pair, str]:
    """The changes of each common node that changed, as text."""
    parameters = {str(node.target): node for node in after.graph.nodes if node.op == "get_attr"}
    same = {pair.before: pair.after for pair in pairs if pair.before and pair.after}
    same |= {
        node: parameters[str(node.target)]
        for node in before.graph.nodes
        if node.op == "get_attr" and str(node.target) in parameters
    }
    there = set(same.values())
    found = {pair: _changes(pair.before, pair.after, same, there) for pair in pairs if pair.before and pair.after}
    return {pair: detail for pair, detail in found.items() if detail}


def _changes(old: fx.Node, new: fx.Node, same: Mapping[fx.Node, fx.Node], there: set[fx.Node]) -> str:
    """`kernel_size 3 -> 5`: changed attributes and operands, and a changed input if both inputs are in both graphs."""
    was, now = _features(old), _features(new)
    parts = [
        f"{name} {was.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in {**was, **now}
        if was.get(name, "absent") != now.get(name, "absent")
    ]
    reads = zip(_reads(old), _reads(new), strict=False)
    moved = [(a, b) for a, b in reads if a in same and b in there and same[a] is not b]
    operation = operation_of(old)
    if operation and operation.commutes and {same[a] for a, _ in moved} == {b for _, b in moved}:
        moved = []
    return ", ".join([*parts, *(f"reads {a.name} -> {b.name}" for a, b in moved)])


def _reads(node: fx.Node) -> list[fx.Node]:
    return [*nodes_in(node.args), *nodes_in(dict(node.kwargs))]


def _features(node: fx.Node) -> dict[str, str]:
    """Attributes and operands as text, without the names of inputs: parameters by their shapes."""
    if node.op != "call_function":
        return {"value": value_text(node.args, _reference)} if node.args else {}
    given = settings(node, _reference)
    operands = {name: value for name, value in named_operands(node).items() if name not in given and value is not None}
    return {**given, **{name: value_text(value, _reference) for name, value in operands.items()}}


def _reference(node: fx.Node) -> str:
    return shape_text(node.meta["shape"]) if node.op == "get_attr" else "value"


def _both(before: Iterable[str], after: Iterable[str]) -> dict[str, tuple[int, int]]:
    old, new = Counter(before), Counter(after)
    return {name: (old[name], new[name]) for name in {**old, **new}}


def _equal(old: torch.Tensor, new: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers; NaN counts as equal to NaN."""
    if old is new:
        return True
    if old.shape != new.shape or old.dtype != new.dtype:
        return False
    old, new = old.detach().cpu(), new.detach().cpu()
    return torch.equal(old, new) or bool(((old == new) | (old.isnan() & new.isnan())).all())


def difference_svg(before: Graph, after: Graph) -> str:
    """Both graphs in one picture: common, removed and added nodes, each in its place, and the lines between them."""
    pairs = align(before, after)
    details = _details(pairs, before, after)
    names = _names(pairs)
    old, new = {line.name: line for line in lines(before)}, {line.name: line for line in lines(after)}
    rows = [_row(pair, details.get(pair, ""), old, new, names) for pair in pairs]
    marks = {
        row.name: "changed" if pair.common else "removed" if pair.before else "added"
        for row, pair in zip(rows, pairs, strict=True)
        if not pair.common or pair in details
    }
    counts = Counter(marks[row.name] for row in rows if row.name in marks)
    story = ", ".join(f"{counts[mark]} {mark}" for mark in ("removed", "added", "changed"))
    model = " -> ".join(dict.fromkeys((before.model_name, after.model_name)))
    title = f"{model}: {len(computing(before))} -> {len(computing(after))} operations, {story}"
    return draw(rows, marks=marks, title=title)


def _names(pairs: Sequence[Pair]) -> dict[str, str]:
    """Unique names in the picture for the nodes before: a common node has its name after, a removed node its own."""
    taken = {pair.after.name for pair in pairs if pair.after}
    names: dict[str, str] = {}
    for pair in pairs:
        if pair.before:
            own = pair.before.name
            names[own] = pair.after.name if pair.after else f"{own} (before)" if own in taken else own
    return names


def _row(pair: Pair, detail: str, old: Mapping[str, Line], new: Mapping[str, Line], names: Mapping[str, str]) -> Line:
    """A node of the picture; a common node reads its inputs after the rewrite, and the removed ones before it."""
    if pair.after is None:
        line = old[pair.node.name]
        told = f"by {pair.rule}" if pair.rule else line.attributes
        reads = tuple(names[name] for name in line.reads)
        return dataclasses.replace(line, name=names[line.name], reads=reads, attributes=told, rule=pair.rule)
    line = new[pair.after.name]
    if pair.before is None:
        return line
    read = [names[name] for name in old[pair.before.name].reads]
    reads = tuple(dict.fromkeys([*line.reads, *(name for name in read if name not in new)]))
    return dataclasses.replace(line, reads=reads, attributes=detail or line.attributes)

"""Which nodes of two graphs are the same: by the log where one was made from the other, else by sequence alignment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from torch import fx

from surgery.graph.graph import Graph
from surgery.graph.nodes import operation_name


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A node of the first graph, a node of the second, or both if they are the same; `rule` added or removed it."""

    before: fx.Node | None
    after: fx.Node | None
    rule: str | None = None

    @property
    def node(self) -> fx.Node:
        """The node before if there is one, else the one after."""
        node = self.before or self.after
        assert node is not None, "a pair holds a node"
        return node

    @property
    def common(self) -> bool:
        return self.before is not None and self.after is not None


def align(before: Graph, after: Graph) -> tuple[Pair, ...]:
    """Pair the nodes (without parameters) that are the same, in an order that keeps both orders of execution.

    Where the log of one graph continues that of the other, the edits give the exact pairs and rules. Otherwise
    the sequences of module paths and operations are aligned.
    """
    matching = _by_log(before, after) or _flipped(_by_log(after, before))
    if matching is None:
        # SequenceMatcher favors its first argument in a tie; a fixed order makes the result the same both ways.
        forth = _keys(before) <= _keys(after)
        matching = _by_sequence(before, after) if forth else _flipped(_by_sequence(after, before))
    assert matching is not None, "sequences can always be aligned"
    return tuple(_merged(_nodes(before), _nodes(after), matching))


@dataclass(frozen=True, kw_only=True)
class _Matching:
    """For each common node after, its node before; and the rules that added or removed the other nodes."""

    same: Mapping[fx.Node, fx.Node]
    rules: Mapping[fx.Node, str | None]


def _flipped(matching: _Matching | None) -> _Matching | None:
    if matching is None:
        return None
    return _Matching(same={new: old for old, new in matching.same.items()}, rules=matching.rules)


def _by_log(before: Graph, after: Graph) -> _Matching | None:
    """Follow the edits that only `after` has in its log; None where they do not explain every difference."""
    if after.log[: len(before.log)] != before.log:
        return None
    removed: dict[str, str] = {}
    added: dict[str, str] = {}
    for edit in after.log[len(before.log) :]:
        removed = {name: edit.rule for name, _ in edit.removed} | removed
        added |= {name: edit.rule for name, _ in edit.added}
    old = [node for node in _nodes(before) if node.name not in removed]
    new = [node for node in _nodes(after) if node.name not in added]
    if [(node.name, _key(node)) for node in old] != [(node.name, _key(node)) for node in new]:
        return None
    rules = {node: removed[node.name] for node in _nodes(before) if node.name in removed}
    rules |= {node: added[node.name] for node in _nodes(after) if node.name in added}
    return _Matching(same=dict(zip(old, new, strict=True)), rules=rules)


def _by_sequence(before: Graph, after: Graph) -> _Matching:
    old, new = _nodes(before), _nodes(after)
    blocks = SequenceMatcher(None, _keys(before), _keys(after), autojunk=False).get_matching_blocks()
    return _Matching(
        same={old[block.a + step]: new[block.b + step] for block in blocks for step in range(block.size)},
        rules={node: node.meta["rule"] for node in [*old, *new]},
    )


def _merged(before: Sequence[fx.Node], after: Sequence[fx.Node], matching: _Matching) -> Iterator[Pair]:
    """Both sequences merged into one; between common nodes, those only in `before` precede those only in `after`."""
    waiting = iter(after)
    for node in before:
        match = matching.same.get(node)
        if match is None:
            yield Pair(before=node, after=None, rule=matching.rules[node])
            continue
        for other in itertools.takewhile(lambda other, match=match: other is not match, waiting):
            yield Pair(before=None, after=other, rule=matching.rules[other])
        yield Pair(before=node, after=match)
    for other in waiting:
        yield Pair(before=None, after=other, rule=matching.rules[other])


def _nodes(graph: Graph) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op != "get_attr"]


def _key(node: fx.Node) -> tuple[str, str]:
    return node.meta["module_path"], operation_name(node)


def _keys(graph: Graph) -> list[tuple[str, str]]:
    return [_key(node) for node in _nodes(graph)]

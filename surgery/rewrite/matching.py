"""Matching a pattern at a node: every way in which it fits, or the deepest reason why it does not fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from surgery.graph import OPERATIONS, operation_name
from surgery.rewrite.expression import Call, Expression, Literal, Name, Several, Wildcard, operations_of

Bindings = Mapping[str, Any]
"""The value that a name captured: a node, None for an absent operand, a list of nodes, or an attribute's value."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A match of a pattern: its roots (the nodes to be replaced), the values of its names, and every node it covers."""

    roots: tuple[fx.Node, ...]
    bindings: Bindings
    nodes: tuple[fx.Node, ...]


@dataclass(kw_only=True)
class Trail:
    """Why a pattern did not fit: the reason met after the most nodes had fitted."""

    depth: int = -1
    reason: str = ""

    def note(self, depth: int, reason: str) -> None:
        # Strictly deeper: at equal depth the first reason is kept, which is that of the order as written.
        if depth > self.depth:
            self.depth, self.reason = depth, reason


@dataclass(frozen=True, kw_only=True)
class _State:
    # Immutable, because the alternatives at a node are tried from the same state and must not see each other's names.
    bindings: dict[str, Any] = field(default_factory=dict)
    nodes: tuple[fx.Node, ...] = ()

    def bind(self, name: str, value: Any) -> _State | None:
        if name in self.bindings:
            return self if _same(self.bindings[name], value) else None
        return _State(bindings={**self.bindings, name: value}, nodes=self.nodes)


def matches(patterns: tuple[Call, ...], node: fx.Node, trail: Trail) -> Iterator[Match]:
    """Every way in which the first pattern fits at `node` and the others at other nodes of its graph."""
    for state, roots in _roots(patterns, (node,), _State(), trail):
        yield Match(roots=roots, bindings=state.bindings, nodes=state.nodes)


def _roots(
    patterns: tuple[Call, ...], roots: tuple[fx.Node, ...], state: _State, trail: Trail
) -> Iterator[tuple[_State, tuple[fx.Node, ...]]]:
    for found in _call(patterns[len(roots) - 1], roots[-1], state, trail):
        if len(roots) == len(patterns):
            yield found, roots
            continue
        wanted = operations_of(patterns[len(roots)].function)
        for other in node_candidates(roots[0].graph, wanted):
            # Two outputs of a rule are two nodes; one node cannot be replaced by two values.
            if other not in roots:
                yield from _roots(patterns, (*roots, other), found, trail)


def node_candidates(graph: fx.Graph, operations: tuple[str, ...]) -> list[fx.Node]:
    """The nodes of the given operations, in order."""
    return [node for node in graph.nodes if node.op == "call_function" and operation_name(node) in operations]


def _value(pattern: Expression, value: Any, state: _State, trail: Trail) -> Iterator[_State]:
    """Match one operand or attribute value."""
    if isinstance(pattern, Wildcard):
        yield state
    elif isinstance(pattern, Name):
        bound = state.bind(pattern.name, value)
        if bound is None:
            trail.note(
                len(state.nodes),
                f"{pattern.name} would stand for {_show(state.bindings[pattern.name])} and {_show(value)}",
            )
        else:
            yield bound
    elif isinstance(pattern, Literal):
        if _same(pattern.value, value):
            yield state
        else:
            trail.note(len(state.nodes), f"{_show(value)} where {pattern.value!r} is expected")
    elif isinstance(pattern, Several):
        items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if len(items) == len(pattern.items):
            yield from _operands(pattern.items, items, state, trail)
        else:
            trail.note(len(state.nodes), f"{len(items)} operands where {len(pattern.items)} are expected")
    else:
        yield from _call(pattern, value, state, trail)


def _call(pattern: Call, node: Any, state: _State, trail: Trail) -> Iterator[_State]:
    wanted = operations_of(pattern.function)
    if not isinstance(node, fx.Node) or operation_name(node) not in wanted:
        trail.note(len(state.nodes), f"{_show(node)} where {pattern.function} is expected")
        return
    entered = _State(bindings=state.bindings, nodes=(*state.nodes, node))
    labeled = entered.bind(pattern.label, node) if pattern.label else entered
    if labeled is None:
        return
    orders = [tuple(node.args)]
    # The order as written comes first, because the first match at a node that meets the conditions is used.
    # Swapping needs both operands in the pattern; a single one stands for the first operand.
    if OPERATIONS[operation_name(node)].commutes and len(pattern.operands) == 2:
        orders.append(orders[0][::-1])
    for after in _attributes(pattern, node, labeled, trail):
        for order in orders:
            yield from _operands(pattern.operands, order, after, trail)


def _attributes(pattern: Call, node: fx.Node, state: _State, trail: Trail) -> Iterator[_State]:
    for key, expected in pattern.attributes:
        if key not in node.kwargs:
            trail.note(len(state.nodes), f"{node.name} ({operation_name(node)}) has no {key}")
            return
        found = node.kwargs[key]
        if isinstance(expected, Literal) and not same_attribute(key, expected.value, found, node):
            trail.note(len(state.nodes), f"{node.name} has {key}={found!r}, not {expected.value!r}")
            return
        if isinstance(expected, Name):
            bound = state.bind(expected.name, found)
            if bound is None:
                trail.note(len(state.nodes), f"{node.name} has {key}={found!r}, not {state.bindings[expected.name]!r}")
                return
            state = bound
    yield state


def _operands(
    patterns: tuple[Expression, ...], values: tuple[Any, ...], state: _State, trail: Trail
) -> Iterator[_State]:
    if not patterns:
        yield state
        return
    head = values[0] if values else None  # an absent optional operand matches as None
    for found in _value(patterns[0], head, state, trail):
        yield from _operands(patterns[1:], values[1:], found, trail)


def same_attribute(key: str, expected: Any, found: Any, node: fx.Node) -> bool:
    """Compare an attribute as people write it: 1 for (1, 1), -1 for the last dimension, lists for tuples."""
    expected, found = _as_tuple(expected), _as_tuple(found)
    if expected == found and type(expected) is type(found):
        return True
    # Normal form spells a size for each dimension; a rule may write one number for all of them.
    if isinstance(found, tuple) and not isinstance(expected, tuple):
        expected = (expected,) * len(found)
    if "dim" in key:
        rank = len(node.args[0].meta["shape"] or ()) if node.args and isinstance(node.args[0], fx.Node) else 0
        expected, found = _positive(expected, rank), _positive(found, rank)
    return expected == found


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _positive(value: Any, rank: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_positive(item, rank) for item in value)
    # `keepdim` contains "dim" too: booleans are integers in Python and would be reduced modulo the rank.
    return value % rank if rank and isinstance(value, int) and not isinstance(value, bool) else value


def _same(left: Any, right: Any) -> bool:
    # Nodes by identity: two nodes that compute the same value are still two places in the graph.
    if isinstance(left, fx.Node) or isinstance(right, fx.Node):
        return left is right
    if isinstance(left, (tuple, list)) and isinstance(right, (tuple, list)):
        return len(left) == len(right) and all(itertools.starmap(_same, zip(left, right, strict=True)))
    return left == right


def _show(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"{value.name} ({operation_name(value)})"
    return repr(value)

"""Matching a pattern at a node: every way in which it fits, or the deepest reason why it does not fit.

Operands of commuting operations match in both orders, so the ways of a nested pattern multiply. What a part of the
pattern finds at a node is therefore kept, and found once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from surgery.graph import OPERATIONS, operation_name
from surgery.rewrite.expression import (
    Call,
    Expression,
    Literal,
    Name,
    Several,
    Wildcard,
    names_bound,
    operations_of,
)

MAX_WAYS = 30_000
"""Ways of fitting parts of a pattern at one node after which the search is given up: about a second."""

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


class TooManyWaysError(Exception):
    """A pattern fits at a node in more than `MAX_WAYS` ways, none of which meets the conditions so far."""


@dataclass(frozen=True, kw_only=True)
class _State:
    # Immutable, because the alternatives at a node are tried from the same state and must not see each other's names.
    bindings: dict[str, Any] = field(default_factory=dict)
    nodes: tuple[fx.Node, ...] = ()

    def bind(self, name: str, value: Any) -> _State | None:
        if name in self.bindings:
            return self if _same(self.bindings[name], value) else None
        return _State(bindings={**self.bindings, name: value}, nodes=self.nodes)


@dataclass(kw_only=True)
class _Search:
    """The search at one node: the reason that it gives, and what parts of the pattern found at nodes."""

    trail: Trail
    found: dict[Any, _Ways] = field(default_factory=dict)
    names: dict[int, frozenset[str]] = field(default_factory=dict)
    count: int = 0

    def note(self, state: _State, reason: str) -> None:
        self.trail.note(len(state.nodes), reason)


@dataclass(kw_only=True)
class _Ways:
    """The different ways in which a part of the pattern fits at a node: its captures and nodes, found as needed."""

    source: Iterator[_State]
    known: dict[Any, _State] = field(default_factory=dict)

    def __iter__(self) -> Iterator[_State]:
        yield from list(self.known.values())
        for way in self.source:
            key = (_key(list(way.bindings.items())), way.nodes)
            if key not in self.known:
                self.known[key] = way
                yield way


def matches(patterns: tuple[Call, ...], node: fx.Node, trail: Trail) -> Iterator[Match]:
    """Every way in which the first pattern fits at `node` and the others at other nodes of its graph.

    Raises TooManyWaysError.
    """
    for state, roots in _roots(patterns, (node,), _State(), _Search(trail=trail)):
        yield Match(roots=roots, bindings=state.bindings, nodes=state.nodes)


def _roots(
    patterns: tuple[Call, ...], roots: tuple[fx.Node, ...], state: _State, search: _Search
) -> Iterator[tuple[_State, tuple[fx.Node, ...]]]:
    for found in _call(patterns[len(roots) - 1], roots[-1], state, search):
        if len(roots) == len(patterns):
            yield found, roots
            continue
        wanted = operations_of(patterns[len(roots)].function)
        for other in node_candidates(roots[0].graph, wanted):
            # Two outputs of a rule are two nodes; one node cannot be replaced by two values.
            if other not in roots:
                yield from _roots(patterns, (*roots, other), found, search)


def node_candidates(graph: fx.Graph, operations: tuple[str, ...]) -> list[fx.Node]:
    """The nodes of the given operations, in order."""
    return [node for node in graph.nodes if node.op == "call_function" and operation_name(node) in operations]


def _value(pattern: Expression, value: Any, state: _State, search: _Search) -> Iterator[_State]:
    """Match one operand or attribute value."""
    if isinstance(pattern, Wildcard):
        yield state
    elif isinstance(pattern, Name):
        bound = state.bind(pattern.name, value)
        if bound is None:
            held = _show(state.bindings[pattern.name])
            search.note(state, f"{pattern.name} would stand for {held} and {_show(value)}")
        else:
            yield bound
    elif isinstance(pattern, Literal):
        if _same(pattern.value, value):
            yield state
        else:
            search.note(state, f"{_show(value)} where {pattern.value!r} is expected")
    elif isinstance(pattern, Several):
        items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if len(items) == len(pattern.items):
            yield from _operands(pattern.items, items, state, search)
        else:
            search.note(state, f"{len(items)} operands where {len(pattern.items)} are expected")
    else:
        yield from _call(pattern, value, state, search)


def _call(pattern: Call, node: Any, state: _State, search: _Search) -> Iterator[_State]:
    wanted = operations_of(pattern.function)
    if not isinstance(node, fx.Node) or operation_name(node) not in wanted:
        search.note(state, f"{_show(node)} where {pattern.function} is expected")
        return
    # What fits here depends on the node and on the captures that this part of the pattern has in common with the parts
    # before it. So does the depth of a reason, because the parts before it always cover the same number of nodes.
    if id(pattern) not in search.names:
        search.names[id(pattern)] = names_bound((pattern,))
    names = search.names[id(pattern)]
    shared = {name: value for name, value in state.bindings.items() if name in names}
    key = (id(pattern), node, _key(list(shared.items())))
    if key not in search.found:
        search.found[key] = _Ways(source=_fits(pattern, node, _State(bindings=shared, nodes=state.nodes), search))
    before = len(state.nodes)
    for way in search.found[key]:
        search.count += 1
        if search.count > MAX_WAYS:
            raise TooManyWaysError
        yield _State(bindings={**state.bindings, **way.bindings}, nodes=(*state.nodes, *way.nodes[before:]))


def _fits(pattern: Call, node: fx.Node, state: _State, search: _Search) -> Iterator[_State]:
    """Match the label, attributes and operands of a call, whose operation fits."""
    entered = _State(bindings=state.bindings, nodes=(*state.nodes, node))
    labeled = entered.bind(pattern.label, node) if pattern.label else entered
    if labeled is None:
        return
    orders = [tuple(node.args)]
    # The order as written comes first, because the first match at a node that meets the conditions is used.
    # Swapping needs both operands in the pattern; a single one stands for the first operand.
    if OPERATIONS[operation_name(node)].commutes and len(pattern.operands) == 2:
        orders.append(orders[0][::-1])
    for after in _attributes(pattern, node, labeled, search):
        for order in orders:
            yield from _operands(pattern.operands, order, after, search)


def _attributes(pattern: Call, node: fx.Node, state: _State, search: _Search) -> Iterator[_State]:
    for key, expected in pattern.attributes:
        if key not in node.kwargs:
            search.note(state, f"{node.name} ({operation_name(node)}) has no {key}")
            return
        found = node.kwargs[key]
        if isinstance(expected, Literal) and not same_attribute(key, expected.value, found, node):
            search.note(state, f"{node.name} has {key}={found!r}, not {expected.value!r}")
            return
        if isinstance(expected, Name):
            bound = state.bind(expected.name, found)
            if bound is None:
                search.note(state, f"{node.name} has {key}={found!r}, not {state.bindings[expected.name]!r}")
                return
            state = bound
    yield state


def _operands(
    patterns: tuple[Expression, ...], values: tuple[Any, ...], state: _State, search: _Search
) -> Iterator[_State]:
    if not patterns:
        yield state
        return
    head = values[0] if values else None  # an absent optional operand matches as None
    for found in _value(patterns[0], head, state, search):
        yield from _operands(patterns[1:], values[1:], found, search)


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


def _key(value: Any) -> Any:
    """A hashable stand-in of captured values: equal only for values that every comparison here takes for the same."""
    if isinstance(value, fx.Node):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(_key, value))
    return type(value), repr(value)


def _show(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"{value.name} ({operation_name(value)})"
    return repr(value)

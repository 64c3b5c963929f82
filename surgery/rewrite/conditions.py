"""The conditions of `where`: each looks at a match and returns None where it holds, or the reason why it does not."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from surgery.graph import nodes_in
from surgery.rewrite.matching import Match, same_attribute

Dependent = set[fx.Node]
"""The nodes whose values depend on the input."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """Conditions on a match, all of which have to hold.

    `module`: a glob on the module path of the replaced node. `shape`: for a captured node its sizes, with "_" for any
    one and "..." for any number, or the name of another captured node of the same shape. `attributes`: values of
    captured attributes (`k`) or of attributes of named nodes (`conv.groups`). `data`, `constant`: captured nodes that
    do, or do not, depend on the input. `parameter`: captured operands that are unmodified parameters, or absent.
    `shared = false`: no parameter that the match reads is read at another call site. `private = true`: no node that the
    match covers, its outputs excepted, is read outside it.
    """

    module: str | None
    shape: Mapping[str, str | tuple[int | str, ...]]
    attributes: Mapping[str, Any]
    data: tuple[str, ...]
    constant: tuple[str, ...]
    parameter: tuple[str, ...]
    shared: bool | None
    private: bool | None

    def names(self) -> Iterator[str]:
        """The captured names that the conditions use."""
        yield from self.shape
        yield from (value for value in self.shape.values() if isinstance(value, str))
        yield from (key.split(".")[0] for key in self.attributes)
        yield from self.data
        yield from self.constant
        yield from self.parameter


def unmet(where: Where, match: Match, dependent: Dependent) -> str | None:
    """The first condition that `match` does not meet, in words, or None."""
    for check in CHECKS:
        reason = check(where, match, dependent)
        if reason is not None:
            return reason
    return None


def _module(where: Where, match: Match, dependent: Dependent) -> str | None:
    path = match.roots[0].meta["module_path"]
    if where.module is None or fnmatch.fnmatchcase(path, where.module):
        return None
    return f"module {path!r} is not {where.module!r}"


def _shape(where: Where, match: Match, dependent: Dependent) -> str | None:
    for name, wanted in where.shape.items():
        found = _shape_of(match.bindings[name])
        if isinstance(wanted, str):
            other = _shape_of(match.bindings[wanted])
            if found != other:
                return f"{name} has shape {_write(found)}, {wanted} {_write(other)}"
        elif not fits(found, wanted):
            return f"{name} has shape {_write(found)}, not {_write(wanted)}"
    return None


def fits(shape: tuple[int | str, ...], pattern: tuple[int | str, ...]) -> bool:
    """True where `shape` is what `pattern` allows: numbers exactly, "_" any size, "..." any number of sizes."""
    if not pattern:
        return not shape
    if pattern[0] == "...":
        # "..." may cover no size at all, so that one pattern serves vectors and images.
        return any(fits(shape[i:], pattern[1:]) for i in range(len(shape) + 1))
    return bool(shape) and pattern[0] in ("_", shape[0]) and fits(shape[1:], pattern[1:])


def _attributes(where: Where, match: Match, dependent: Dependent) -> str | None:
    for key, wanted in where.attributes.items():
        name, _, attribute = key.partition(".")
        node = match.bindings[name]
        if attribute and not isinstance(node, fx.Node):
            return f"{name} is {node!r}, which has no attribute {attribute!r}: it is not a node"
        found = node.kwargs.get(attribute) if attribute else node
        # A captured value does not know its node; the root gives the rank that negative dimensions count from.
        owner = node if attribute else match.roots[0]
        if not same_attribute(attribute or name, wanted, found, owner):
            return f"{key} is {found!r}, not {wanted!r}"
    return None


def _origin(where: Where, match: Match, dependent: Dependent) -> str | None:
    """Where captured values come from: the input, constants alone, or a parameter as it is stored."""
    for name in where.data:
        if not any(node in dependent for node in nodes_in(match.bindings[name])):
            return f"{name} does not depend on the input"
    for name in where.constant:
        if any(node in dependent for node in nodes_in(match.bindings[name])):
            return f"{name} depends on the input"
    for name in where.parameter:
        value = match.bindings[name]
        if value is not None and not (isinstance(value, fx.Node) and value.op == "get_attr"):
            return f"{name} is computed, not a parameter"
    return None


def _readers(where: Where, match: Match, dependent: Dependent) -> str | None:
    # A fold that changes a parameter would change it for a second call site as well.
    read = [node for covered in match.nodes for node in covered.all_input_nodes if node.op == "get_attr"]
    reason = _flag(where.shared, _outside_reader(read, match), "no parameter is shared")
    if reason is not None:
        return reason
    # Roots are excepted: their readers are rewired. An inner node that is read elsewhere stays.
    inner = [node for node in match.nodes if node not in match.roots]
    wanted = None if where.private is None else not where.private
    return _flag(wanted, _outside_reader(inner, match), "no inner node is read elsewhere")


def _flag(wanted: bool | None, found: str | None, absent: str) -> str | None:
    if wanted is None or wanted == (found is not None):
        return None
    return found or absent


def _outside_reader(nodes: list[fx.Node], match: Match) -> str | None:
    for node in nodes:
        for reader in node.users:
            if reader not in match.nodes:
                return f"{node.name} is also read by {reader.name}"
    return None


def _shape_of(value: Any) -> tuple[int | str, ...]:
    return (value.meta["shape"] or ()) if isinstance(value, fx.Node) else ()


def _write(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


CHECKS: tuple[Callable[[Where, Match, Dependent], str | None], ...] = (
    _module,
    _shape,
    _attributes,
    _origin,
    _readers,
)

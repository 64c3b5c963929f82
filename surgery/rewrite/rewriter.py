"""The rewriter: a copy of a graph's nodes on which edits are carried out one after the other."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from torch import fx
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from surgery.errors import RewriteError
from surgery.graph import (
    OPERATIONS,
    Builder,
    Edit,
    Graph,
    UnsupportedError,
    copy_nodes,
    depends_on_input,
    operation_name,
    operation_of,
    refresh,
    values_read,
)
from surgery.graph.builder import Place
from surgery.graph.operation import keeps_attributes
from surgery.rewrite.expression import Call, Expression, Literal, Name, Several
from surgery.rewrite.matching import Match
from surgery.rewrite.ruleset import Rule
from surgery.rewrite.transforms import TRANSFORMS, Site


class Rewriter:
    """The nodes and tensors that edits change; the graph from which they were copied stays as it is."""

    def __init__(self, graph: Graph) -> None:
        self.origin = graph
        self.graph, _ = copy_nodes(graph.graph)
        self.tensors = graph.tensors()
        self.names = {node.name: node for node in self.graph.nodes}
        self.dependent = depends_on_input(self.graph)
        self._kept: set[tuple[str, str, tuple[fx.Node, ...]]] = set()
        self._inserted: set[tuple[str, str, fx.Node]] = set()

    def has(self, node: fx.Node) -> bool:
        """True while `node` is in the graph."""
        return self.names.get(node.name) is node

    def find(self, name: str) -> fx.Node | None:
        """The node of that name, or None where it was removed."""
        return self.names.get(name)

    def form(self) -> int:
        """A digest of the nodes without their names, and of the insertions that no rule repeats."""
        position = {node: index for index, node in enumerate(self.graph.nodes)}
        parts = [
            (node.target, node.meta["module_path"], map_arg((node.args, node.kwargs), position.__getitem__))
            for node in position
        ]
        return hash((repr(parts), len(self._kept), len(self._inserted)))

    def is_done(self, rule: Rule, roots: tuple[fx.Node, ...]) -> bool:
        """True where `rule` inserted nodes after `roots` and kept them, or inserted one of `roots` itself.

        An inserting rule still matches after it has fired. It fires once at each node that it did not insert.
        """
        key = (rule.ruleset, rule.name)
        return (*key, roots) in self._kept or any((*key, root) in self._inserted for root in roots)

    def perform(self, rule: Rule, match: Match) -> Edit:
        """Replace what `match` found by the rewrite of `rule`.

        The readers of a matched root read the new node instead, except for the new nodes themselves: these may read
        the root, which is then kept.

        Raises RewriteError where a shape changes and the rule does not allow it, or where a node would read itself.
        """
        root = match.roots[0]
        place = Place.of(root)
        made: list[fx.Node] = []
        values = [
            self._write(rule, expression, old, match, made)
            for expression, old in zip(rule.rewrite, match.roots, strict=True)
        ]
        for old, new in zip(match.roots, values, strict=True):
            _check_replaced(rule, old, new)
        # All roots at once, because two of them may change places. `Node.replace_all_uses_with` handles one node, and
        # would also rewire the new nodes, which have to keep reading the root behind which they are inserted.
        replacements, new_nodes = dict(zip(match.roots, values, strict=True)), set(made)
        for reader in {user: None for old in replacements for user in old.users if user not in new_nodes}:
            reader.args = map_arg(reader.args, lambda node: replacements.get(node, node))
            reader.kwargs = map_arg(reader.kwargs, lambda node: replacements.get(node, node))
        # In the order of writing, so that the inputs of a new node are classified before the node.
        for node in made:
            self.names[node.name] = node
            if any(read in self.dependent for read in values_read(node)):
                self.dependent.add(node)
        removed = self._remove_dead([*match.roots, *made])
        if len(match.roots) > 1:
            self._sort(rule, root)
        # A root that survives is still matched by the pattern, so the rule would fire here in every round.
        if any(map(self.has, match.roots)):
            self._kept.add((rule.ruleset, rule.name, match.roots))
            self._inserted |= {(rule.ruleset, rule.name, node) for node in made}
        # Only a rule that may change a shape pays for computing all later shapes again.
        if not rule.keeps_shape:
            try:
                refresh(self.graph)
            except _UNWRITABLE as error:
                raise RewriteError(
                    f"rule {rule.name!r} at {place} changes a shape, and a later node cannot work on the new one:"
                    f" {error}",
                    hint="restrict the rule with where, or rewrite the later nodes too",
                ) from error
        return Edit(
            rule=rule.name,
            ruleset=rule.ruleset,
            at=root.name,
            into=values[0].name,
            removed=tuple((node.name, operation_name(node)) for node in removed if node not in made),
            added=tuple((node.name, operation_name(node)) for node in made if self.has(node)),
            module_path=place.module_path,
            file=place.file,
            line=place.line,
        )

    def finish(self, log: tuple[Edit, ...]) -> Graph:
        """The rewritten graph, with only the tensors that it still reads."""
        self.graph.lint()
        return self.origin.derive(self.graph, self.tensors, log)

    def survey(self) -> None:
        """Recompute which nodes depend on the input; between two surveys, edits only add to that set."""
        self.dependent = depends_on_input(self.graph)

    def _write(
        self, rule: Rule, expression: Expression, replaced: fx.Node, match: Match, made: list[fx.Node]
    ) -> fx.Node:
        at = match.roots[0]
        builder = Builder(self.graph)
        builder.made = made
        place = Place.of(at)
        builder.place = Place(module_path=place.module_path, file=place.file, line=place.line, rule=rule.name)
        site = Site(at=at, builder=builder, tensors=self.tensors)
        try:
            # After the root, because the new nodes may read it. `inserting_after` would reverse their order.
            with self.graph.inserting_before(at.next):
                value = _evaluate(expression, match, site, replaced)
        except _UNWRITABLE as error:
            raise RewriteError(
                f"rule {rule.name!r} cannot write {rule.rewrite_text!r} at {at.name} ({place}): {error}"
            ) from error
        if not isinstance(value, fx.Node):
            raise RewriteError(
                f"rule {rule.name!r} at {at.name} ({place}): expected a tensor, the rewrite is {value!r}"
            )
        return value

    def _sort(self, rule: Rule, root: fx.Node) -> None:
        """Order the nodes so that each follows its inputs, and otherwise as before.

        Only rules with several outputs need it: an operand of one output may be computed after another output.
        """
        position = {node: index for index, node in enumerate(self.graph.nodes)}
        if all(position[read] < position[node] for node in position for read in node.all_input_nodes):
            return
        # Kahn's algorithm with a heap on the old positions: it keeps the old order where the inputs allow it.
        missing = {node: len(node.all_input_nodes) for node in position}
        ready = [(position[node], node) for node, count in missing.items() if not count]
        ordered: list[fx.Node] = []
        while ready:
            _, node = heapq.heappop(ready)
            ordered.append(node)
            for reader in node.users:
                missing[reader] -= 1
                if not missing[reader]:
                    heapq.heappush(ready, (position[reader], reader))
        if len(ordered) < len(position):
            raise RewriteError(
                f"rule {rule.name!r} at {root.name} ({Place.of(root)}): a new node would read its own result,"
                " because one of the matched outputs is computed from another",
                hint="restrict the rule with where, so that it matches independent outputs only",
            )
        for before, node in itertools.pairwise(ordered):
            before.append(node)

    def _remove_dead(self, suspects: list[fx.Node]) -> list[fx.Node]:
        """Erase the nodes without readers, from `suspects` upwards; return the calls erased, in that order."""
        removed: list[fx.Node] = []
        while suspects:
            node = suspects.pop()
            if node.users or node.op not in ("call_function", "get_attr") or not self.has(node):
                continue
            suspects += node.all_input_nodes  # read before the erasure, which empties the list
            self.graph.erase_node(node)
            del self.names[node.name]
            if node.op == "call_function":
                removed.append(node)
        return removed


_UNWRITABLE = (UnsupportedError, RuntimeError, TypeError, ValueError, IndexError, ArithmeticError)
"""The errors of operations on operands and attributes that do not fit."""


def _evaluate(expression: Expression, match: Match, site: Site, replaced: fx.Node | None = None) -> Any:
    """The value of an expression; its outermost call keeps the attributes of the node `replaced` that it can have."""
    if isinstance(expression, Name):
        return match.bindings[expression.name]
    if isinstance(expression, Literal):
        return expression.value
    if isinstance(expression, Several):
        return [_evaluate(item, match, site) for item in expression.items]
    assert isinstance(expression, Call), "wildcards are refused when the rule is loaded"
    operands = [_evaluate(item, match, site) for item in expression.operands]
    attributes = {key: _evaluate(value, match, site) for key, value in expression.attributes}
    if expression.function in TRANSFORMS:
        if not all(isinstance(operand, fx.Node) and operand.meta["shape"] is not None for operand in operands):
            raise TypeError(f"{expression.function} takes tensors, the operands are {operands}")
        return TRANSFORMS[expression.function](site, *operands, **attributes)
    new = OPERATIONS[expression.function]
    old = operation_of(replaced) if replaced is not None else None
    if replaced is not None and old is not None and keeps_attributes(old, new):
        attributes = {key: value for key, value in replaced.kwargs.items() if key in new.attributes} | attributes
    return site.call(expression.function, operands, attributes)


def _check_replaced(rule: Rule, old: fx.Node, new: fx.Node) -> None:
    """A node may only be replaced by a value of its shape and dtype, unless the rule allows it."""
    if not rule.keeps_shape or _form(old) == _form(new):
        return
    was, now = (f"({', '.join(map(str, node.meta['shape'] or ()))}) {node.meta['dtype']}" for node in (old, new))
    raise RewriteError(
        f"rule {rule.name!r} turns {old.name} of shape {was} into {new.name} of shape {now}, at {Place.of(old)}",
        hint="restrict it with where, or set keeps_shape = false in the rule if that is meant",
    )


def _form(node: fx.Node) -> list[Any]:
    """What readers rely on: the shapes and dtype of every tensor of a value (`chunk` has several)."""
    # Both twins, because two shapes may be equal for one batch size and differ for the other.
    leaves, _ = pytree.tree_flatten(node.meta["twins"])
    tensors = [(tuple(leaf.shape), leaf.dtype) if hasattr(leaf, "shape") else leaf for leaf in leaves]
    return [node.meta["shape"], *tensors]

"""The bench: a copy of a graph's nodes on which one edit after the other is carried out."""

from __future__ import annotations

from typing import Any

from torch import fx

from surgery.errors import RewriteError
from surgery.graph import (
    Builder,
    Edit,
    Graph,
    UnsupportedError,
    copy_nodes,
    depends_on_input,
    operation_name,
    refresh,
    values_read,
)
from surgery.graph.builder import Place
from surgery.rewrite.expression import Call, Expression, Literal, Name, Several
from surgery.rewrite.matching import Match
from surgery.rewrite.ruleset import Rule
from surgery.rewrite.transforms import TRANSFORMS, Site


class Bench:
    """Holds the nodes and tensors that edits work on; the graph that it was made from stays as it is."""

    def __init__(self, graph: Graph) -> None:
        self.origin = graph
        self.graph, _ = copy_nodes(graph.graph)
        self.tensors = graph.tensors()
        self.names = {node.name: node for node in self.graph.nodes}
        self.dependent = depends_on_input(self.graph)

    def has(self, node: fx.Node) -> bool:
        return self.names.get(node.name) is node

    def find(self, name: str) -> fx.Node | None:
        return self.names.get(name)

    def perform(self, rule: Rule, match: Match) -> Edit:
        """Put the rewrite of `rule` in the place of `match`.

        Raises RewriteError where that changes a shape and the rule does not say so, or where the order forbids it.
        """
        root = match.roots[0]
        place = Place.of(root)
        _check_order(rule, match)
        made: list[fx.Node] = []
        values = [self._write(rule, expression, match, made) for expression in rule.rewrite]
        for old, new in zip(match.roots, values, strict=True):
            _check_replaced(rule, old, new)
            old.replace_all_uses_with(new, propagate_meta=False)
        for node in made:
            self.names[node.name] = node
            if any(read in self.dependent for read in values_read(node)):
                self.dependent.add(node)
        removed = self._remove_dead([*match.roots, *made])
        if not rule.keeps_shape:
            refresh(self.graph)
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
        """The graph as it stands now, with only the tensors that it still reads."""
        return self.origin.derive(self.graph, self.tensors, log)

    def survey(self) -> None:
        """Find anew which nodes depend on the input; edits only ever add to what is known between two surveys."""
        self.dependent = depends_on_input(self.graph)

    def _write(self, rule: Rule, expression: Expression, match: Match, made: list[fx.Node]) -> fx.Node:
        at = match.roots[0]
        builder = Builder(self.graph)
        builder.made = made
        place = Place.of(at)
        builder.place = Place(module_path=place.module_path, file=place.file, line=place.line, rule=rule.name)
        site = Site(at=at, builder=builder, tensors=self.tensors)
        try:
            with self.graph.inserting_before(at):
                value = _evaluate(expression, match, site)
        except (UnsupportedError, RuntimeError, TypeError, ValueError, IndexError) as error:
            raise RewriteError(
                f"rule {rule.name!r} cannot write {rule.rewrite_text!r} at {at.name} ({place}): {error}"
            ) from error
        if not isinstance(value, fx.Node):
            raise RewriteError(f"rule {rule.name!r} at {at.name} puts {value!r} in the place of a tensor")
        return value

    def _remove_dead(self, suspects: list[fx.Node]) -> list[fx.Node]:
        """Erase what nobody reads any more, from `suspects` upwards; return what went, in the order of erasing."""
        removed: list[fx.Node] = []
        while suspects:
            node = suspects.pop()
            if node.users or node.op not in ("call_function", "get_attr") or not self.has(node):
                continue
            suspects += node.all_input_nodes
            self.graph.erase_node(node)
            del self.names[node.name]
            if node.op == "call_function":
                removed.append(node)
        return removed


def _evaluate(expression: Expression, match: Match, site: Site) -> Any:
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
        return TRANSFORMS[expression.function](site, *operands, **attributes)
    return site.call(expression.function, operands, attributes)


def _check_replaced(rule: Rule, old: fx.Node, new: fx.Node) -> None:
    """A node may only be replaced by one of its shape and dtype, unless the rule says otherwise."""
    before, after = ((node.meta["shape"], node.meta["dtype"]) for node in (old, new))
    if rule.keeps_shape and before != after:
        was, now = (f"({', '.join(map(str, shape or ()))}) {dtype}" for shape, dtype in (before, after))
        raise RewriteError(
            f"rule {rule.name!r} turns {old.name} of shape {was} into {new.name} of shape {now}, at {Place.of(old)}",
            hint="restrict it with where, or set keeps_shape = false in the rule if that is meant",
        )


def _check_order(rule: Rule, match: Match) -> None:
    """With several outputs the new nodes stand before the first, so all that they read has to be there already."""
    if len(match.roots) == 1:
        return
    order = {node: index for index, node in enumerate(match.roots[0].graph.nodes)}
    first = min(order[root] for root in match.roots)
    bound = [value for value in match.bindings.values() if isinstance(value, fx.Node) and value not in match.roots]
    if order[match.roots[0]] != first or any(order[node] > first for node in bound):
        raise RewriteError(
            f"rule {rule.name!r} at {match.roots[0].name}: an operand is computed after the first output"
        )

"""`plan` finds the edits that rules would make to a graph; `apply` makes them.

Planning applies the rules to a copy of the nodes until no rule fires, and records every edit and every near miss.
Applying repeats the edits of a plan on another copy; edits may have been removed from the plan in between.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from torch import fx

from surgery.errors import RewriteError, RuleError, printable
from surgery.graph import Edit, Graph, Place
from surgery.rewrite.conditions import unmet
from surgery.rewrite.expression import operations_of
from surgery.rewrite.loading import load_rules
from surgery.rewrite.matching import MAX_WAYS, Match, TooManyWaysError, Trail, matches, node_candidates
from surgery.rewrite.rewriter import Rewriter
from surgery.rewrite.ruleset import Rule, RuleSet
from surgery.torch_state import torch_state

MAX_GENERATIONS = 50
"""Generations of nodes that rules may write on nodes that rules wrote, each time with more nodes than they replace."""
GROWTH = 20
"""A graph may grow to this many times its nodes, and to as many more as the rewrites of all rules have calls."""

_SHOWN = 10
"""Rules, and messages about rules, that a plan prints."""
_ROWS = 30
"""Rows of the table of a plan in a notebook."""


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """A node at which a rule did not fire although it has the operation of the pattern; `reason` says why.

    `depth` counts the nodes of the pattern that fitted before the reason was met.
    """

    rule: str
    ruleset: str
    at: str
    module_path: str
    reason: str
    depth: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The edits that `rules` would make to `graph`, in order, and the near misses in the rewritten graph.

    `unexpected` holds a message for each rule that fired more or less often than it expects.
    """

    graph: Graph
    rules: RuleSet
    edits: tuple[Edit, ...]
    near_misses: tuple[NearMiss, ...]
    unexpected: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How often each rule fires, in the order of the rules."""
        fired = Counter(edit.rule for edit in self.edits)
        return {rule.name: fired[rule.name] for rule in self.rules.rules}

    def __repr__(self) -> str:
        head = f"Plan of {self.rules.name} for {self.graph.model_name}: {_by_rule(self.edits)}"
        more = len(self.unexpected) - _SHOWN
        rest = [f"and {more} more rules that fired more or less often than they expect"] if more > 0 else []
        return "\n  ".join([f"{head}, {len(self.near_misses)} near misses", *self.unexpected[:_SHOWN], *rest])

    def _repr_html_(self) -> str:
        rows = [f"<tr><td>{escape(rule)}</td><td>{count}</td></tr>" for rule, count in self.counts().items() if count]
        more = [f"<tr><td>and {len(rows) - _ROWS} more rules</td><td></td></tr>"] if len(rows) > _ROWS else []
        table = f"<table><tr><th>rule</th><th>edits</th></tr>{''.join([*rows[:_ROWS], *more])}</table>"
        return f"<pre>{escape(repr(self))}</pre>{table}"


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A rewritten graph, the log of all edits that led to it, and the graph before."""

    module: Graph
    log: tuple[Edit, ...]
    rules: RuleSet
    before: Graph

    def __repr__(self) -> str:
        return f"Rewrite by {self.rules.name}: {_by_rule(self.log[len(self.before.log) :])}\n{self.module!r}"


def _by_rule(edits: Sequence[Edit]) -> str:
    fired = Counter(edit.rule for edit in edits).most_common()
    more = [f"{len(fired) - _SHOWN} more rules"] if len(fired) > _SHOWN else []
    counts = ", ".join([*(f"{rule} {count}" for rule, count in fired[:_SHOWN]), *more])
    return f"{len(edits)} edits ({counts})" if counts else "no edits"


@torch_state(gradients=False)
def plan(graph: Graph, rules: str | Path | RuleSet | Sequence[str | Path | RuleSet]) -> Plan:
    """Find the edits that `rules` would make to `graph`, which is not changed.

    A rule that inserts nodes after its match (its rewrite reads the matched node) fires once at each node, and
    not at the nodes that it inserts.

    Raises RuleError for a bad ruleset; RewriteError for rules that feed each other or change a shape.
    """
    ruleset = load_rules(rules)
    rewriter = Rewriter(graph)
    edits: list[Edit] = []
    # `sorted` is stable: rules of equal priority keep the order of the ruleset.
    order = sorted(ruleset.rules, key=lambda rule: -rule.priority)
    # Rules that do not feed each other write at most one rewrite each at every node.
    calls = sum(rule.rewrite_text.count("(") for rule in ruleset.rules)
    start = len(rewriter.names)
    growth = _Growth(start=start, most=1000 + (GROWTH + calls) * start)
    seen = {rewriter.form(): 0}
    # A fixpoint: an edit may complete the pattern of a rule that was tried before it, so all rules get another round.
    for round_number in itertools.count(1):
        rewriter.survey()  # an edit can cut a value off from the input, after which rules must not fire on it
        fired: Counter[str] = Counter()
        for rule in order:
            for edit, roots in _fire(rule, rewriter):
                edits.append(edit)
                fired[rule.name] += 1
                reason = growth.add(edit, roots, nodes=len(rewriter.names))
                if reason is not None:
                    raise _endless(reason, fired)
        if not fired:
            break
        before = seen.setdefault(rewriter.form(), round_number)
        if before < round_number:
            same = f"the graph after round {before}" if before else "the graph at the start"
            raise _endless(f"the graph after round {round_number} is the same as {same}", fired)
    misses = _near_misses(order, rewriter)
    return Plan(
        graph=graph,
        rules=ruleset,
        edits=tuple(edits),
        near_misses=misses,
        unexpected=tuple(_unexpected(ruleset, edits, misses)),
    )


@torch_state(gradients=False)
def apply(plan: Plan, *, strict: bool = True) -> Rewrite:
    """Carry out the edits of `plan` on a copy of its graph.

    Raises RuleError where a rule did not fire as often as it expects (unless `strict` is false); RewriteError where an
    edit no longer fits, for example because another edit was removed from the plan.
    """
    if strict and plan.unexpected:
        raise RuleError("\n".join(plan.unexpected), hint="the near misses of the plan say why")
    rewriter = Rewriter(plan.graph)
    rules = {(rule.ruleset, rule.name): rule for rule in plan.rules.rules}
    # Edits name their node, so the plan is repeated without a search over the nodes and without rounds.
    log: list[Edit] = []
    for edit in plan.edits:
        rule = rules.get((edit.ruleset, edit.rule))
        if rule is None:
            raise RewriteError(
                f"the plan names the rule {edit.rule!r} of {edit.ruleset!r}, which its rulesets do not have"
            )
        node = rewriter.find(edit.at)
        trail = Trail(reason="the graph has no such node now")
        match = _first_match(rule, node, rewriter, trail) if node is not None else None
        if match is None and node is not None:
            # Planning surveys once in a round, which a list of edits does not show: try with fresh dependences.
            rewriter.survey()
            match = _first_match(rule, node, rewriter, trail)
        if match is None:
            raise RewriteError(
                f"rule {edit.rule!r} does not fit at {printable(edit.at)}: {trail.reason}",
                hint="was an edit removed from the plan on which this edit builds?",
            )
        log.append(rewriter.perform(rule, match))
    module = rewriter.finish((*plan.graph.log, *log))
    return Rewrite(module=module, log=module.log, rules=plan.rules, before=plan.graph)


@dataclass(kw_only=True)
class _Growth:
    """Tells rules without end by what they write, so that rules with much to do may take their time.

    Nodes of the model are generation zero, and nodes that a rule writes are one generation later than those that it
    replaces. Rules that end write finitely many generations. An edit that leaves fewer nodes than before does not
    count, as such edits end by themselves; one that leaves as many can move an operation through the whole graph.
    """

    start: int
    most: int
    larger: dict[str, int] = field(default_factory=dict)
    equal: dict[str, int] = field(default_factory=dict)

    def add(self, edit: Edit, roots: Sequence[fx.Node], *, nodes: int) -> str | None:
        """Count `edit`, after which the graph has `nodes`; return the reason if it shows that rules do not end."""
        change = len(edit.added) - len(edit.removed)
        larger = max(self.larger.get(root.name, 0) for root in roots) + (change > 0)
        equal = max(self.equal.get(root.name, 0) for root in roots) + (change == 0)
        for name, _ in edit.added:
            self.larger[name], self.equal[name] = larger, equal
        if nodes > self.most:
            return f"the graph has grown from {self.start:,} nodes to {nodes:,} (at most {self.most:,} are allowed)"
        if larger > MAX_GENERATIONS or equal > MAX_GENERATIONS + self.start:
            return f"rules have fired {max(larger, equal)} times in a row on what rules wrote"
        return None


def _endless(reason: str, fired: Counter[str]) -> RewriteError:
    names = ", ".join(f"{name} ({count} times)" for name, count in fired.most_common(10))
    return RewriteError(
        f"rules feed each other without end: {reason}; in the last round fired: {names}",
        hint="change a rule so that it does not match nodes that it or another rule writes; to insert before an"
        " operation, name its operand: relu(c := convolution(_))",
    )


def _fire(rule: Rule, rewriter: Rewriter) -> Iterator[tuple[Edit, tuple[fx.Node, ...]]]:
    """Apply `rule` wherever it fits now, and yield edits with the nodes matched; nodes made wait for the next round."""
    # The candidates are a list made before the first edit, so an edit of this loop adds none to it.
    for node in node_candidates(rewriter.graph, operations_of(rule.match[0].function)):
        # Constant branches stay as they are: a ReLU of a parameter is no obstacle to being affine in the input.
        if node not in rewriter.dependent or not rewriter.has(node):
            continue
        match = _first_match(rule, node, rewriter, Trail())
        if match is not None:
            yield rewriter.perform(rule, match), match.roots


def _first_match(rule: Rule, node: fx.Node, rewriter: Rewriter, trail: Trail) -> Match | None:
    try:
        for match in matches(rule.match, node, trail):
            reason = _DONE if rewriter.is_done(rule, match.roots) else unmet(rule.where, match, rewriter.dependent)
            if reason is None:
                return match
            trail.note(len(match.nodes), reason)
    except TooManyWaysError:
        raise RewriteError(
            f"rule {rule.name!r} of {rule.ruleset!r} fits at {node.name} ({Place.of(node)}) in more than {MAX_WAYS:,}"
            " ways, none of which meets its conditions so far",
            hint="shorten the pattern: operands of add, mul, maximum and minimum match in both orders, and several"
            " outputs match at all nodes of the graph",
        ) from None
    return None


_DONE = "the rule inserts after this node once"


def _near_misses(rules: Sequence[Rule], rewriter: Rewriter) -> tuple[NearMiss, ...]:
    # In the rewritten graph: a node that one rule replaced is no near miss of another.
    rewriter.survey()
    found: list[NearMiss] = []
    for rule in rules:
        for node in node_candidates(rewriter.graph, operations_of(rule.match[0].function)):
            if node.meta["rule"] is not None:
                continue  # written by a rule, not part of the model
            trail = Trail()
            # No rule fires at a fixpoint, so a match that is left over is one that planning skipped as constant.
            if _first_match(rule, node, rewriter, trail) is not None:
                trail = Trail(depth=0, reason="it does not depend on the input")
            if trail.reason == _DONE:
                continue
            found.append(
                NearMiss(
                    rule=rule.name,
                    ruleset=rule.ruleset,
                    at=node.name,
                    module_path=node.meta["module_path"],
                    reason=trail.reason,
                    depth=trail.depth,
                )
            )
    return tuple(found)


def _unexpected(ruleset: RuleSet, edits: Sequence[Edit], misses: Sequence[NearMiss]) -> Iterator[str]:
    fired = Counter((edit.ruleset, edit.rule) for edit in edits)
    for rule in ruleset.rules:
        count = fired[rule.ruleset, rule.name]
        if rule.expected(count):
            continue
        near = [miss for miss in misses if (miss.ruleset, miss.rule) == (rule.ruleset, rule.name)]
        nearest = max(near, key=lambda miss: miss.depth, default=None)
        story = f"nearest: {nearest.at}: {nearest.reason}" if nearest else "no node has an operation that it looks for"
        yield f"rule {rule.name!r} of {rule.ruleset!r} fired {count} times and expects {rule.expect}; {story}"

"""`plan` and `apply`: what rules would do to a graph, and doing it.

Planning applies the rules to a scratch copy of the nodes until nothing fires, and writes down every edit and every near
miss. Applying repeats the edits of a plan, which may have been edited in between, on a fresh copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from surgery.errors import RewriteError, RuleError
from surgery.graph import Edit, Graph
from surgery.rewrite.conditions import unmet
from surgery.rewrite.expression import operations_of
from surgery.rewrite.matching import Match, Trail, matches, node_candidates
from surgery.rewrite.rewriter import Bench
from surgery.rewrite.ruleset import Rule, RuleSet, load_rules

MAX_ROUNDS = 50
"""Rounds over all rules after which they are taken to feed each other."""


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """A node that a rule looked at and left: the operation fitted, and `reason` says what did not."""

    rule: str
    ruleset: str
    at: str
    module_path: str
    reason: str
    depth: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `rules` would do to `graph`: the edits in order, and the near misses in what is left.

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


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A rewritten graph and the log of how it came about."""

    module: Graph
    log: tuple[Edit, ...]
    rules: RuleSet
    before: Graph


def plan(graph: Graph, rules: str | Path | RuleSet | Sequence[str | Path | RuleSet]) -> Plan:
    """Work out what `rules` do to `graph`, which stays as it is.

    Raises RuleError for a bad ruleset; RewriteError for rules that feed each other or change a shape.
    """
    ruleset = load_rules(rules)
    bench = Bench(graph)
    edits: list[Edit] = []
    order = sorted(ruleset.rules, key=lambda rule: -rule.priority)
    limit = 1000 + 20 * len(bench.graph.nodes)
    fired: list[Edit] = []
    for _ in range(MAX_ROUNDS):
        bench.survey()
        fired = [edit for rule in order for edit in _fire(rule, bench, limit - len(edits))]
        edits += fired
        if not fired or len(edits) >= limit:
            break
    if fired:
        raise _endless(fired)
    misses = _near_misses(order, bench)
    return Plan(
        graph=graph,
        rules=ruleset,
        edits=tuple(edits),
        near_misses=misses,
        unexpected=tuple(_unexpected(ruleset, edits, misses)),
    )


def apply(plan: Plan, *, strict: bool = True) -> Rewrite:
    """Carry out the edits of `plan` on a copy of its graph.

    Raises RuleError where a rule did not fire as often as it expects (unless `strict` is false); RewriteError where an
    edit does not fit any more, as after another edit was taken out of the plan.
    """
    if strict and plan.unexpected:
        raise RuleError("\n".join(plan.unexpected), hint="the near misses of the plan say why")
    bench = Bench(plan.graph)
    rules = {(rule.ruleset, rule.name): rule for rule in plan.rules.rules}
    log = [_repeat(edit, rules.get((edit.ruleset, edit.rule)), bench) for edit in plan.edits]
    module = bench.finish((*plan.graph.log, *log))
    return Rewrite(module=module, log=module.log, rules=plan.rules, before=plan.graph)


def _fire(rule: Rule, bench: Bench, budget: int) -> Iterator[Edit]:
    """Apply `rule` wherever it fits now; nodes that it makes wait for the next round."""
    for node in node_candidates(bench.graph, operations_of(rule.match[0].function)):
        if budget <= 0:
            return
        if node not in bench.dependent or not bench.has(node):
            continue
        match = _first_match(rule, node, bench.dependent, Trail())
        if match is not None:
            budget -= 1
            yield bench.perform(rule, match)


def _first_match(rule: Rule, node: fx.Node, dependent: set[fx.Node], trail: Trail) -> Match | None:
    for match in matches(rule.match, node, trail):
        reason = unmet(rule.where, match, dependent)
        if reason is None:
            return match
        trail.note(len(match.nodes), reason)
    return None


def _repeat(edit: Edit, rule: Rule | None, bench: Bench) -> Edit:
    if rule is None:
        raise RewriteError(f"the plan names the rule {edit.rule!r} of {edit.ruleset!r}, which its rulesets do not have")
    node = bench.find(edit.at)
    trail = Trail(reason="there is no such node any more")
    match = _first_match(rule, node, bench.dependent, trail) if node is not None else None
    if match is None and node is not None:
        bench.survey()
        match = _first_match(rule, node, bench.dependent, trail)
    if match is None:
        raise RewriteError(
            f"rule {edit.rule!r} does not fit at {edit.at}: {trail.reason}",
            hint="was an edit taken out of the plan that this one builds on?",
        )
    return bench.perform(rule, match)


def _near_misses(rules: Sequence[Rule], bench: Bench) -> tuple[NearMiss, ...]:
    bench.survey()
    found: list[NearMiss] = []
    for rule in rules:
        for node in node_candidates(bench.graph, operations_of(rule.match[0].function)):
            if node.meta["rule"] is not None:
                continue  # a rule made it as it is
            trail = Trail()
            if _first_match(rule, node, bench.dependent, trail) is not None:
                trail = Trail(depth=0, reason="it does not depend on the input")
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


def _endless(fired: Sequence[Edit]) -> RewriteError:
    names = ", ".join(f"{name} ({count} times)" for name, count in Counter(edit.rule for edit in fired).most_common())
    return RewriteError(
        f"rules feed each other without end; in the last round fired: {names}",
        hint="make one of them not match what another one writes",
    )

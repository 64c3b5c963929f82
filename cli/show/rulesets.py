"""Rulesets as text and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.rewrite import Rule, RuleSet
from surgery_cli.show.pieces import count, heading, table


def summary_dict(ruleset: RuleSet) -> dict[str, Any]:
    """A ruleset without its rules."""
    return {
        "name": ruleset.name,
        "about": ruleset.about,
        "promise": ruleset.promise,
        "rules": len(ruleset.rules),
        "source": " ".join(ruleset.sources),
    }


def ruleset_dict(ruleset: RuleSet) -> dict[str, Any]:
    """A ruleset with its rules."""
    return {**summary_dict(ruleset), "rules": [_rule_dict(rule) for rule in ruleset.rules]}


def listing(rulesets: Sequence[RuleSet]) -> Iterator[RenderableType]:
    """One row for each ruleset."""
    rows = [
        (Text(item.name, style="bold"), str(len(item.rules)), item.promise or Text("none", style="dim"), item.about)
        for item in rulesets
    ]
    yield table(rows, head=("ruleset", "rules", "promise", "about"))


def ruleset_view(ruleset: RuleSet) -> Iterator[RenderableType]:
    """A ruleset with every rule, those of included rulesets first, as they are applied."""
    title = Text(ruleset.name, style="bold")
    title.append(f"  {count(len(ruleset.rules), 'rule')}, promises {_promise(ruleset)}", style="not bold")
    yield title
    if ruleset.about:
        yield Padding(Text(ruleset.about), (0, 0, 0, 2))
    for origin, rules in groupby(ruleset.rules, key=lambda rule: rule.ruleset):
        if origin != ruleset.name:
            yield heading(f"from {origin}")
        for rule in rules:
            yield from _rule_view(rule)


def _promise(ruleset: RuleSet) -> str:
    return {"affine": "an affine result", "same function": "the same function", None: "nothing"}[ruleset.promise]


def _rule_view(rule: Rule) -> Iterator[RenderableType]:
    title = Text(f"\n  {rule.name}", style="cyan")
    remarks = [f"expect {rule.expect}"] if rule.expect is not None else []
    remarks += [f"priority {rule.priority}"] if rule.priority else []
    title.append(f"  {', '.join(remarks)}" if remarks else "", style="dim")
    yield title
    line = Text(rule.match_text, style="red").append("  ->  ", style="dim").append(rule.rewrite_text, style="green")
    yield Padding(line, (0, 0, 0, 4))
    conditions = _conditions(rule)
    if conditions:
        yield Padding(Text(f"where {'; '.join(conditions)}"), (0, 0, 0, 4))
    if rule.about:
        yield Padding(Text(rule.about, style="dim"), (0, 0, 0, 4))


def _conditions(rule: Rule) -> list[str]:
    """The conditions of `where` that are set, as they are written."""
    return [f"{key} = {_written(value)}" for key, value in vars(rule.where).items() if value not in (None, {}, ())]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _rule_dict(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "ruleset": rule.ruleset,
        "match": rule.match_text,
        "rewrite": rule.rewrite_text,
        "where": {key: value for key, value in vars(rule.where).items() if value not in (None, {}, ())},
        "expect": rule.expect,
        "priority": rule.priority,
        "keeps_shape": rule.keeps_shape,
        "about": rule.about,
    }

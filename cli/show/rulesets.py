"""Rulesets, and the vocabulary that rules are written with, as text and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from surgery.graph import KINDS, OPERATIONS
from surgery.rewrite import Rule, RuleSet
from surgery_cli.show.pieces import count, heading, table

PROMISES: Mapping[str | None, str] = {
    "affine": "an affine result",
    "same function": "the same function",
    None: "nothing",
}
"""What a ruleset promises, in words."""


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
    return {
        **summary_dict(ruleset),
        "rules": [
            {
                "name": rule.name,
                "ruleset": rule.ruleset,
                "match": rule.match_text,
                "rewrite": rule.rewrite_text,
                "where": _conditions(rule),
                "expect": rule.expect,
                "priority": rule.priority,
                "keeps_shape": rule.keeps_shape,
                "about": rule.about,
            }
            for rule in ruleset.rules
        ],
    }


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
    title.append(f"  {count(len(ruleset.rules), 'rule')}, promises {PROMISES[ruleset.promise]}", style="not bold")
    yield title
    if ruleset.about:
        yield Padding(Text(ruleset.about), (0, 0, 0, 2))
    for origin, rules in groupby(ruleset.rules, key=lambda rule: rule.ruleset):
        if origin != ruleset.name:
            yield heading(f"from {origin}")
        for rule in rules:
            yield from _rule_view(rule)


def vocabulary_view() -> Table:
    """A row for each operation: its kinds, and how a call of it is written."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kinds", "operation"):
        table.add_column(title)
    for operation in sorted(OPERATIONS.values(), key=lambda item: (item.kinds[:1], item.name)):
        # As in `conv2d(input, weight, [bias], stride=1, ...)`; attributes without a default stand alone.
        required = len(operation.operands) - operation.optional
        operands = [name if place < required else f"[{name}]" for place, name in enumerate(operation.operands)]
        attributes = [key if value is ... else f"{key}={value}" for key, value in operation.attributes.items()]
        table.add_row(", ".join(operation.kinds), f"{operation.name}({', '.join(operands + attributes)})")
    return table


def vocabulary_dict() -> dict[str, Any]:
    """The vocabulary as plain values; attributes without a default are null."""
    return {
        "operations": {
            name: {
                "kinds": list(operation.kinds),
                "operands": list(operation.operands),
                "attributes": {key: None if value is ... else value for key, value in operation.attributes.items()},
            }
            for name, operation in OPERATIONS.items()
        },
        "kinds": {kind: list(names) for kind, names in KINDS.items()},
    }


def _rule_view(rule: Rule) -> Iterator[RenderableType]:
    title = Text(f"\n  {rule.name}", style="cyan")
    remarks = [f"expect {rule.expect}"] if rule.expect is not None else []
    remarks += [f"priority {rule.priority}"] if rule.priority else []
    title.append(f"  {', '.join(remarks)}" if remarks else "", style="dim")
    yield title
    line = Text(rule.match_text, style="red").append("  ->  ", style="dim").append(rule.rewrite_text, style="green")
    yield Padding(line, (0, 0, 0, 4))
    conditions = [f"{key} = {_written(value)}" for key, value in _conditions(rule).items()]
    if conditions:
        yield Padding(Text(f"where {'; '.join(conditions)}"), (0, 0, 0, 4))
    if rule.about:
        yield Padding(Text(rule.about, style="dim"), (0, 0, 0, 4))


def _conditions(rule: Rule) -> dict[str, Any]:
    """The conditions of `where` that are set."""
    return {key: value for key, value in vars(rule.where).items() if value not in (None, {}, ())}


def _written(value: Any) -> str:
    """A value as a TOML file writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)

"""Rules and rulesets, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from surgery.rewrite.conditions import Where
from surgery.rewrite.expression import Call, Expression

Promise = Literal["affine", "same function"]

EXPECTED = re.compile(r"(>=|<=|==)?\s*([0-9]{1,9})")
"""How a rule writes the number of times that it expects to fire."""
_SHOWN = 30
"""Rules that a ruleset prints."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: where `match` fits and `where` holds, `rewrite` takes its place.

    `expect` bounds how often it fires over a whole plan. Rules with a higher `priority` go first. A rule that does not
    keep the shape declares it with `keeps_shape = false`.
    """

    name: str
    ruleset: str
    match: tuple[Call, ...]
    rewrite: tuple[Expression, ...]
    match_text: str
    rewrite_text: str
    where: Where
    expect: str | None
    priority: int
    keeps_shape: bool
    about: str
    source: str

    def __repr__(self) -> str:
        return f"{self.name}: {self.match_text} -> {self.rewrite_text}"

    def expected(self, count: int) -> bool:
        """True if the rule expects to fire `count` times."""
        if self.expect is None:
            return True
        found = EXPECTED.fullmatch(self.expect.strip())
        assert found is not None, "checked when the rule was loaded"
        sign, number = found[1] or "==", int(found[2])
        return {">=": count >= number, "<=": count <= number, "==": count == number}[sign]


@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """Rules under one name, with those of the included rulesets before them, and the promise of the result.

    `sources` are the names or paths from which it was loaded: one, or several for joined rulesets.
    """

    name: str
    about: str
    promise: Promise | None
    rules: tuple[Rule, ...]
    sources: tuple[str, ...]

    def __repr__(self) -> str:
        promise = f", promises {self.promise}" if self.promise else ""
        rows = [f"  {rule!r}" for rule in self.rules[:_SHOWN]]
        more = [f"  ... {len(self.rules) - _SHOWN} more rules"] if len(self.rules) > _SHOWN else []
        return "\n".join([f"RuleSet {self.name}: {len(self.rules)} rules{promise}", *rows, *more])

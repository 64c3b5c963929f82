"""Whether two runs of a recipe found the same, bit by bit: one that was stopped, and one that was not, have to."""

from __future__ import annotations

from pathlib import Path

from surgery.recipe.running.folder import RECORD
from surgery.store import compare

MATTERS = ("parameters", "seeds", "data_digest", RECORD)
"""The provenance that two runs of one recipe share; the rest says when, where and after how many tries."""


def differences(first: str | Path, second: str | Path) -> tuple[str, ...]:
    """What differs between two stores, a line each; none where their results are the same bits but for times.

    Raises StoreError where one cannot be read.
    """
    found = compare(first, second)
    alone = [f"{name}: only in one of the stores" for name in (*found.only_first, *found.only_second)]
    counted = [item for item in found.differences if item.what not in ("provenance", "time") or item.name in MATTERS]
    return (*alone, *(f"{item.group}/{item.name}: {item.found}" for item in counted))

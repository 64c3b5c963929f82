"""Comparison of two runs of a recipe, bit by bit: a run that was stopped has to end like one that was not."""

from __future__ import annotations

from pathlib import Path

from surgery.stages.folder import RECORD
from surgery.store import compare

MATTERS = ("parameters", "seeds", "data_digest", RECORD)
"""The provenance that two runs of one recipe share; the rest depends on time, machine and interruptions."""


def differences(first: str | Path, second: str | Path) -> tuple[str, ...]:
    """The differences between two stores, a line each; none if their results are the same bits except for times.

    Raises StoreError if one cannot be read.
    """
    found = compare(first, second)
    alone = [f"{name}: in one of the stores only" for name in (*found.only_first, *found.only_second)]
    counted = [item for item in found.differences if item.what not in ("provenance", "time") or item.name in MATTERS]
    return (*alone, *(f"{item.group}/{item.name}: {item.found}" for item in counted))

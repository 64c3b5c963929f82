"""The differences between two stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from surgery.store.reading import list_groups, read_group
from surgery.store.values import Group

SHOWN = 20
"""The most differences that are printed."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A variable, coordinate, attribute or provenance text that differs between two stores.

    `what`: `variable`, `time` for the numbers of a variable in seconds, `coordinate`, `attribute`, `provenance` or
    `kind`. `found`: the difference, in a few words. `largest`: the largest absolute difference of numbers, infinite
    where only one of two numbers is finite.
    """

    group: str
    what: str
    name: str
    found: str
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two stores compared; `largest`: the largest absolute difference of each numeric variable that both have."""

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    differences: tuple[Difference, ...]
    largest: dict[str, float]

    def __repr__(self) -> str:
        """The number of differences, and the first ones: two runs can differ in thousands of places."""
        shown = [f"  {item.group}/{item.name}: {item.found}" for item in self.differences[:SHOWN]]
        more = len(self.differences) - len(shown)
        counts = f"only in the first: {len(self.only_first)} groups, only in the second: {len(self.only_second)} groups"
        head = f"Comparison: {'the same results' if self.same else 'different results'}; {counts}"
        return "\n".join([head, *shown, *([f"  and {more} more differences"] if more else [])])

    @property
    def same(self) -> bool:
        """Whether the results are the same; provenance and times do not count."""
        results = [item for item in self.differences if item.what not in ("provenance", "time")]
        return not (self.only_first or self.only_second or results)


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two stores group by group; raises StoreError if one cannot be read."""
    names = [item.name for item in list_groups(first)]
    others = [item.name for item in list_groups(second)]
    differences: list[Difference] = []
    largest: dict[str, float] = {}
    for name in (name for name in names if name in others):
        ours, theirs = read_group(first, name), read_group(second, name)
        differences += _differences(ours, theirs)
        arrays = {item.name: item.data for item in theirs.variables}
        for item in ours.variables:
            other = arrays.get(item.name)
            numeric = other is not None and "U" not in (item.data.dtype.kind, other.dtype.kind)
            if other is not None and numeric and item.data.shape == other.shape:
                largest[f"{name}/{item.name}"] = largest_difference(item.data, other)
    return Comparison(
        only_first=tuple(name for name in names if name not in others),
        only_second=tuple(name for name in others if name not in names),
        differences=tuple(differences),
        largest=largest,
    )


def largest_difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest absolute difference; 0 for equal infinities and for two NaN, infinite for NaN and a number."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))
    alike = (first == second) | (np.isnan(first) & np.isnan(second))
    return float(np.max(np.where(alike, 0.0, np.where(np.isnan(apart), np.inf, apart))))


def _differences(first: Group, second: Group) -> list[Difference]:
    """The differences between two groups of the same name."""
    found = []
    if first.kind != second.kind:
        found.append(Difference(group=first.name, what="kind", name="kind", found=f"{first.kind} / {second.kind}"))
    variables = [{item.name: item.data for item in group.variables} for group in (first, second)]
    coordinates = [{item.name: np.asarray(item.values) for item in group.coordinates} for group in (first, second)]
    for what, (ours, theirs) in {"variable": variables, "coordinate": coordinates}.items():
        found += _missing(first, what, ours, theirs)
        for name in ours:
            if name in theirs and (item := _array_difference(ours[name], theirs[name])) is not None:
                found.append(Difference(group=first.name, what=what, name=name, found=item[0], largest=item[1]))
    attributes = first.attributes, second.attributes
    provenances = first.provenance, second.provenance
    for what, (ours, theirs) in {"attribute": attributes, "provenance": provenances}.items():
        found += _missing(first, what, ours, theirs)
        for name in ours:
            if name in theirs and repr(ours[name]) != repr(theirs[name]):
                pair = f"{_short(ours[name])} / {_short(theirs[name])}"
                found.append(Difference(group=first.name, what=what, name=name, found=pair))
    # Wall times differ between any two runs; another shape of such a variable is still a difference of results.
    seconds = {item.name for item in first.variables if item.units == "s"}
    return [replace(item, what="time") if item.name in seconds and item.largest is not None else item for item in found]


def _missing(group: Group, what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    first = [(name, "only in the first") for name in ours if name not in theirs]
    second = [(name, "only in the second") for name in theirs if name not in ours]
    return [Difference(group=group.name, what=what, name=name, found=found) for name, found in first + second]


def _array_difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[str, float | None] | None:
    """The difference of two arrays in words and as a number, or None if they are the same bits."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} / {theirs.shape}", None
    if ours.dtype.kind == "U" or theirs.dtype.kind == "U":
        count = int(np.count_nonzero(ours.astype(str) != theirs.astype(str)))
        return (f"{count} of {ours.size} texts", None) if count else None
    apart = largest_difference(ours, theirs)
    if apart:
        return "values", apart
    if ours.dtype != theirs.dtype:
        return f"type {ours.dtype} / {theirs.dtype}", 0.0
    # Equal as numbers: the bits still tell 0.0 from -0.0.
    return ("signs of zeros or of NaN", 0.0) if ours.tobytes() != theirs.tobytes() else None


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."

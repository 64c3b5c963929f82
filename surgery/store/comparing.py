"""What differs between two stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from surgery.store.reading import list_groups, read_group
from surgery.store.values import Group


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A variable, coordinate, attribute or provenance text that is not the same in both stores.

    `what`: `variable`, `time` for the numbers of a variable in seconds, `coordinate`, `attribute`, `provenance` or
    `kind`. `found`: what is the matter, in a few words. `largest`: the largest absolute difference of numbers, infinite
    where only one of two is a finite number.
    """

    group: str
    what: str
    name: str
    found: str
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two stores beside each other; `largest` holds the largest difference of every variable that both have."""

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    differences: tuple[Difference, ...]
    largest: dict[str, float]

    @property
    def same(self) -> bool:
        """Whether the results are the same; how they came about may differ, and how long that took."""
        results = [item for item in self.differences if item.what not in ("provenance", "time")]
        return not (self.only_first or self.only_second or results)


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two stores group by group; raises StoreError where one cannot be read."""
    names = [item.name for item in list_groups(first)]
    others = [item.name for item in list_groups(second)]
    differences: list[Difference] = []
    largest: dict[str, float] = {}
    for name in names:
        if name in others:
            pair = read_group(first, name), read_group(second, name)
            differences += _differences(*pair)
            largest |= _largest(*pair)
    return Comparison(
        only_first=tuple(name for name in names if name not in others),
        only_second=tuple(name for name in others if name not in names),
        differences=tuple(differences),
        largest=largest,
    )


def largest_difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest absolute difference; equal infinities and two NaN do not differ; NaN against a number is infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))
    alike = (first == second) | (np.isnan(first) & np.isnan(second))
    return float(np.max(np.where(alike, 0.0, np.where(np.isnan(apart), np.inf, apart))))


def _differences(first: Group, second: Group) -> list[Difference]:
    found = [Difference(group=first.name, what="kind", name="kind", found=f"{first.kind} / {second.kind}")]
    found = found if first.kind != second.kind else []
    found += _arrays(first, second, "variable", _variables(first), _variables(second))
    found += _arrays(first, second, "coordinate", _coordinates(first), _coordinates(second))
    found += _texts(first, "attribute", first.attributes, second.attributes)
    found += _texts(first, "provenance", first.provenance, second.provenance)
    seconds = {item.name for item in first.variables if item.units == "s"}
    return [replace(item, what="time") if item.name in seconds and item.largest is not None else item for item in found]


def _variables(group: Group) -> dict[str, np.ndarray]:
    return {item.name: item.data for item in group.variables}


def _coordinates(group: Group) -> dict[str, np.ndarray]:
    return {item.name: np.asarray(item.values) for item in group.coordinates}


def _largest(first: Group, second: Group) -> dict[str, float]:
    ours, theirs = _variables(first), _variables(second)
    return {
        f"{first.name}/{name}": largest_difference(ours[name], theirs[name])
        for name in ours
        if name in theirs and _comparable(ours[name], theirs[name])
    }


def _comparable(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and ours.dtype.kind != "U" and theirs.dtype.kind != "U"


def _arrays(
    first: Group, second: Group, what: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> list[Difference]:
    found = _missing(first, what, ours, theirs)
    for name in ours:
        if name in theirs and (item := _array(ours[name], theirs[name])) is not None:
            found.append(Difference(group=first.name, what=what, name=name, found=item[0], largest=item[1]))
    return found


def _array(ours: np.ndarray, theirs: np.ndarray) -> tuple[str, float | None] | None:
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
    return ("signs of zeros or of NaN", 0.0) if ours.tobytes() != theirs.tobytes() else None


def _texts(group: Group, what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    found = _missing(group, what, ours, theirs)
    for name in ours:
        if name in theirs and repr(ours[name]) != repr(theirs[name]):
            pair = f"{_short(ours[name])} / {_short(theirs[name])}"
            found.append(Difference(group=group.name, what=what, name=name, found=pair))
    return found


def _missing(group: Group, what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    gone = [(name, "only in the first") for name in ours if name not in theirs]
    came = [(name, "only in the second") for name in theirs if name not in ours]
    return [Difference(group=group.name, what=what, name=name, found=found) for name, found in gone + came]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."

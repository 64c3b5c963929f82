"""Two runs side by side: paired tests on the images that both attacked, and the parameters that differ."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgery.attack import mcnemar
from surgery.store import Group, list_groups, read_group, read_provenances


@dataclass(frozen=True, kw_only=True)
class PairedAccuracy:
    """Two networks under one attack, on the same `images`.

    `first`, `second`: shares of the images that are classified correctly. `difference`: the second minus the first,
    with its 95 % `interval`. `only_first`, `only_second`: images that only one of them classifies correctly. `p_value`:
    of McNemar's exact test.
    """

    group: str
    attack: str
    images: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class ChangedParameter:
    """A parameter that differs; `first`, `second`: its values as JSON, empty if a run does not have it.

    `group`: the stage that it belongs to, or `recipe` for one outside of the stages, such as `data.train_size`.
    """

    group: str
    name: str
    first: str
    second: str


def paired_accuracies(first: str | Path, second: str | Path) -> tuple[PairedAccuracy, ...]:
    """Compare the attack groups that two stores have under the same name, attack by attack.

    Groups whose images have different labels are left out: they are not about the same images. Raises StoreError if a
    store cannot be read.
    """
    kinds = [{item.name: item.kind for item in list_groups(path)} for path in (first, second)]
    names = [name for name, kind in kinds[0].items() if kind == kinds[1].get(name) == "attack"]
    return tuple(
        found for name in names for found in _paired(read_group(first, name), read_group(second, name), group=name)
    )


def changed_parameters(first: str | Path, second: str | Path) -> tuple[ChangedParameter, ...]:
    """The parameters in which two runs differ: those of the recipe, and of the groups of the same name.

    Raises StoreError if a store cannot be read.
    """
    stores = read_provenances(first), read_provenances(second)
    found = [*_changes("recipe", *(_outside_of_stages(store) for store in stores))]
    for name in (name for name in stores[0] if name in stores[1]):
        found += _changes(name, *(_parsed(json.loads, store[name].get("parameters", "{}")) for store in stores))
    return tuple(found)


def _changes(group: str, first: Any, second: Any) -> Iterator[ChangedParameter]:
    before, now = dict(_flat(first)), dict(_flat(second))
    for key in dict.fromkeys([*before, *now]):
        values = before.get(key, ""), now.get(key, "")
        if values[0] != values[1]:
            yield ChangedParameter(group=group, name=key, first=values[0], second=values[1])


def _outside_of_stages(provenances: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The tables `[recipe]`, `[data]` and `[model]` of the recipe of the group that was written last."""
    texts = [found["recipe"] for found in provenances.values() if "recipe" in found]
    tables = _parsed(tomllib.loads, texts[-1]) if texts else {}
    return {name: value for name, value in tables.items() if name not in ("stage", "matrix")}


def _paired(first: Group, second: Group, *, group: str) -> Iterator[PairedAccuracy]:
    """The comparisons of two attack groups; none if they are not about the same images."""
    known = [{item.name for item in group.variables} for group in (first, second)]
    if any(not {"label", "correct"} <= names for names in known) or not np.array_equal(first["label"], second["label"]):
        return
    names = [[str(name) for name in item["attack"]] for item in (first, second)]
    for attack in (name for name in names[0] if name in names[1]):
        one, other = (item["correct"][own.index(attack)] == 1 for item, own in zip((first, second), names, strict=True))
        paired = mcnemar(one, other)
        yield PairedAccuracy(
            group=group,
            attack=attack,
            images=len(one),
            first=float(one.mean()),
            second=float(other.mean()),
            difference=paired.difference,
            interval=difference_interval(paired.only_first, paired.only_second, len(one)),
            only_first=paired.only_first,
            only_second=paired.only_second,
            p_value=paired.p_value,
        )


def difference_interval(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired shares (Agresti and Min 2005).

    Half an image is added to each of the four cells of the table: unlike the plain interval, this one is not a point if
    the two networks agree on all images.
    """
    first, second, count = only_first + 0.5, only_second + 0.5, images + 2.0
    center = (second - first) / count
    error = math.sqrt(first + second - (second - first) ** 2 / count) / count
    return max(-1.0, center - 1.959964 * error), min(1.0, center + 1.959964 * error)


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except (ValueError, RecursionError):  # another program may write any text
        return {}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The values of nested tables as JSON, by their dotted keys."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif prefix:
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)

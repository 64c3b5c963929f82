"""The matrix of a recipe: which stages are repeated for which values, and what the repetitions are called."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.recipe.merging import Merged, NoTableError
from surgery.recipe.problems import Problem
from surgery.recipe.reading import missing_stage, parse_key
from surgery.recipe.references import inputs_of, stage_tables
from surgery.recipe.stages import STAGES
from surgery.toml import Location
from surgery.validation import shown

MOST_STAGES = 2000
"""More are taken for a mistake."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """A key of the matrix: where its values go, and the words for them in names of stages."""

    key: str
    location: Location
    values: tuple[Any, ...]
    words: tuple[str, ...]


Choice = Mapping[str, int]
"""For keys of axes the number of a value."""


def read_axes(merged: Merged) -> tuple[list[Axis], list[Problem]]:
    """The axes of the matrix, and what is wrong with it."""
    matrix = merged.data.get("matrix", {})
    if not isinstance(matrix, dict):
        return [], []
    problems: list[Problem] = []
    found: dict[str, Location] = {}
    for key, values in matrix.items():
        told = _check_axis(key, values, merged)
        if told is None:
            found[key] = _location(key)
        else:
            on_key = not told.startswith("expected")
            problems.append(Problem(place=merged.place(("matrix", key), on_key=on_key), message=f"{key}: {told}"))
    axes = [
        Axis(key=key, location=location, values=tuple(matrix[key]), words=_words(matrix[key]))
        for key, location in found.items()
    ]
    clashes = list(_clashes(axes, merged))
    problems += clashes
    return ([] if clashes else axes), problems


def combinations(axes: Sequence[Axis]) -> Iterator[Choice]:
    """All choices of one value on each axis; the last axis varies first."""
    for indices in itertools.product(*(range(len(axis.values)) for axis in axes)):
        yield dict(zip((axis.key for axis in axes), indices, strict=True))


def choices(axes: Sequence[Axis], of_stages: Iterable[Sequence[Axis]]) -> list[Choice]:
    """Choices in which every stage meets every combination of the axes that it depends on; axes that it does not
    depend on do not multiply.
    """
    first = {axis.key: 0 for axis in axes}
    found = [first, *({**first, **some} for own in dict.fromkeys(map(tuple, of_stages)) for some in combinations(own))]
    return list({tuple(choice.items()): choice for choice in found}.values())


def repetitions(of_stages: Iterable[Sequence[Axis]]) -> int:
    """How many stages there are with all their repetitions."""
    return sum(math.prod(len(axis.values) for axis in own) for own in of_stages)


def chosen(merged: Merged, axes: Sequence[Axis], choice: Choice) -> Merged:
    """The recipe without its matrix, with one value on each axis."""
    for axis in axes:
        index = choice[axis.key]
        source, inner = merged.origin(("matrix", axis.key))
        merged = merged.with_value(axis.location, axis.values[index], (source, (*inner, index)))
    return merged.without("matrix")


def axes_of_stages(merged: Merged, axes: Sequence[Axis]) -> dict[str, tuple[Axis, ...]]:
    """For each stage the axes that it depends on, by its own keys or through the stages that it refers to.

    A report depends on no axis: it is about all repetitions.
    """
    tables = stage_tables(merged.data)
    own = {name: {axis.key for axis in axes if _depends(name, tables[name], axis)} for name in tables}
    inputs: dict[str, set[str]] = {name: set() for name in tables}
    for choice in choices(axes, [[axis] for axis in axes]):  # one value makes one reference, whatever the others are
        for name, links in inputs_of(chosen(merged, axes, choice)).items():
            inputs.setdefault(name, set()).update(link.target for link in links)
    changed = True
    while changed:
        before = {name: len(keys) for name, keys in own.items()}
        for name in own:
            if tables[name].get("kind") != "report":
                own[name] |= {key for other in inputs[name] for key in own.get(other, ())}
        changed = before != {name: len(keys) for name, keys in own.items()}
    return {name: tuple(axis for axis in axes if axis.key in keys) for name, keys in own.items()}


def check_size(merged: Merged, of_stages: Iterable[Sequence[Axis]]) -> Iterator[Problem]:
    """A problem where the matrix makes so many stages that it has to be a mistake."""
    count = repetitions(of_stages)
    if count > MOST_STAGES:
        message = f"the matrix makes {count} stages; at most {MOST_STAGES} are taken"
        yield Problem(place=merged.place(("matrix",)), message=message)


def repeated_name(stage: str, axes: Sequence[Axis], choice: Choice) -> str:
    """`at@seed-1+steps-10`: legal for a group of the store and for a file."""
    tags = [f"{label}-{axis.words[choice[axis.key]]}" for label, axis in zip(labels(axes), axes, strict=True)]
    return f"{stage}@{'+'.join(tags)}" if tags else stage


def labels(axes: Sequence[Axis]) -> tuple[str, ...]:
    """What the axes of a stage are called: the last part of each key, or as many as tell it from the others."""
    return tuple(_label(axis.location, [other.location for other in axes]) for axis in axes)


def _label(location: Location, among: Sequence[Location]) -> str:
    counts = range(1, len(location) + 1)
    alone = (count for count in counts if sum(other[-count:] == location[-count:] for other in among) == 1)
    return ".".join(_word(str(part)) for part in location[-next(alone, len(location)) :])


def _check_axis(key: str, values: Any, merged: Merged) -> str | None:
    location = _location(key)
    if isinstance(values, list) and len(values) > MOST_STAGES:
        return f"expected at most {MOST_STAGES} values, got {len(values)}"
    if not isinstance(values, list) or not values:
        return f"expected a list of values, got {shown(values) if values != [] else 'an empty one'}"
    if len({json.dumps(value, sort_keys=True, default=str) for value in values}) != len(values):
        return "expected different values, but one is there twice"
    if not location or not _is_place(location):
        return 'a matrix has `seed`, keys of [model], and keys inside stages, as in "stage.at.epochs"'
    if location[0] == "data":
        return "the data are the same for the whole recipe; another data set is another recipe"
    if location[0] == "stage" and location[2:] == ("kind",):
        return "the kind of a stage cannot vary"
    if location[0] == "stage" and stage_tables(merged.data).get(str(location[1]), {}).get("kind") == "report":
        return "a report is about all repetitions at once, so nothing in it can vary"
    missing = missing_stage(merged, location)
    if missing is not None:
        return "; ".join(filter(None, missing))
    try:
        merged.with_value(location, values[0], (merged.origin(())[0], ()))
    except NoTableError as error:
        return f"{'.'.join(map(str, error.location))} is no table"
    return None


def _location(key: str) -> Location:
    return ("recipe", "seed") if key in ("seed", "recipe.seed") else parse_key(key) or ()


def _is_place(location: Location) -> bool:
    return {"stage": len(location) >= 3, "model": len(location) >= 2, "data": True}.get(
        str(location[0]), location == ("recipe", "seed")
    )


def _clashes(axes: Sequence[Axis], merged: Merged) -> Iterator[Problem]:
    locations = [axis.location for axis in axes]
    for axis in axes:
        above = [other for other in locations if other != axis.location and axis.location[: len(other)] == other]
        if above or locations.count(axis.location) > 1:
            message = f"{axis.key}: another key of the matrix sets the same value"
            yield Problem(place=merged.place(("matrix", axis.key), on_key=True), message=message)


def _words(values: Sequence[Any]) -> tuple[str, ...]:
    """A word for each value: itself where that makes a name, or else its number, from one."""
    words = tuple(_word(shown(value).strip("'\"")) for value in values)
    plain = all(isinstance(value, (bool, int, float, str)) for value in values) and len(set(words)) == len(words)
    return words if plain and all(words) else tuple(str(number) for number in range(1, len(values) + 1))


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:40]


def _depends(name: str, table: Mapping[str, Any], axis: Axis) -> bool:
    """Whether a value on the axis goes into the stage itself."""
    head, kind = axis.location[0], table.get("kind")
    if head == "stage":
        return axis.location[1] == name
    if head == "model":
        return kind == "train" and "network" not in table
    model = STAGES.get(kind) if isinstance(kind, str) else None
    return model is not None and "seed" in model.model_fields and "seed" not in table

"""The matrix of a recipe: the values for which stages are repeated, and the names of the repetitions."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.errors import InputError
from surgery.recipe.document import Document, NoTableError
from surgery.recipe.links import gathers, inputs_of
from surgery.recipe.problems import Problem
from surgery.recipe.reading import missing_stage, parse_key
from surgery.stages.fields import check_plain
from surgery.stages.registry import table_of
from surgery.toml import Location
from surgery.validation import shown

MOST_STAGES = 2000
"""A recipe of more stages is taken for a mistake."""

MOST_AXES = 50
"""A matrix of more keys is taken for a mistake: names of stages hold the values of all of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """A key of the matrix: where its values go, and their words in the names of stages."""

    key: str
    location: Location
    values: tuple[Any, ...]
    words: tuple[str, ...]


Choice = Mapping[str, int]
"""For keys of axes the number of a value."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """The axes, and for each stage those that it depends on, through its own keys or through its inputs.

    `choices`: one number of a value for each axis, so often that every stage meets all combinations of its own axes;
    axes that no stage shares do not multiply.
    """

    axes: tuple[Axis, ...]
    of_stage: Mapping[str, tuple[Axis, ...]]
    choices: tuple[Choice, ...]

    def name(self, stage: str, choice: Choice) -> str:
        """The name of a repetition, as in `at@seed-1+steps-10`: legal for a group of the store and for a file."""
        own = self.of_stage[stage]
        locations = [axis.location for axis in own]
        tags = [f"{_label(axis.location, locations)}-{axis.words[choice[axis.key]]}" for axis in own]
        return f"{stage}@{'+'.join(tags)}" if tags else stage


def read_matrix(document: Document, problems: list[Problem]) -> Matrix:
    """The matrix of a recipe; mistakes are added to `problems` and left out."""
    axes = _axes(document, problems)
    of_stage = _axes_of_stages(document, axes)
    count = sum(math.prod(len(axis.values) for axis in own) for own in of_stage.values())
    if count > MOST_STAGES:
        message = f"matrix: expected at most {MOST_STAGES} stages with all repetitions, got {count}"
        problems.append(Problem(place=document.place(("matrix",)), message=message))
    choices = _choices(axes, [] if count > MOST_STAGES else of_stage.values())
    return Matrix(axes=axes, of_stage=of_stage, choices=choices)


def chosen(document: Document, axes: Sequence[Axis], choice: Choice) -> Document:
    """The recipe without its matrix, with one value on each axis."""
    for axis in axes:
        index = choice[axis.key]
        source, inner = document.origin(("matrix", axis.key))
        document = document.with_value(axis.location, axis.values[index], (source, (*inner, index)))
    return document.without("matrix")


def _axes(document: Document, problems: list[Problem]) -> tuple[Axis, ...]:
    matrix = document.data.get("matrix", {})
    if not isinstance(matrix, dict):
        message = f"matrix: expected a table, got {shown(matrix)}"
        problems.append(Problem(place=document.place(("matrix",)), message=message, hint="as in matrix.seed = [0, 1]"))
        return ()
    if len(matrix) > MOST_AXES:
        message = f"matrix: expected at most {MOST_AXES} keys, got {len(matrix)}"
        problems.append(Problem(place=document.place(("matrix",)), message=message))
        return ()
    # A key that is wrong is left out, so that the mistakes of the stages are reported in the same error.
    axes = []
    for key, values in matrix.items():
        problem = _check_axis(key, values, document)
        if problem is not None:
            problems.append(problem)
        else:
            axes.append(Axis(key=key, location=_location(key), values=tuple(values), words=_words(values)))
    locations = [axis.location for axis in axes]
    clashes = []
    for axis in axes:
        above = [other for other in locations if other != axis.location and axis.location[: len(other)] == other]
        if above or locations.count(axis.location) > 1:
            place = document.place(("matrix", axis.key), on_key=True)
            clashes.append(Problem(place=place, message=f"{axis.key}: another key of the matrix sets the same value"))
    problems += clashes
    return () if clashes else tuple(axes)


def _choices(axes: Sequence[Axis], of_stages: Iterable[Sequence[Axis]]) -> tuple[Choice, ...]:
    # A choice for every combination of each stage's own axes, not of all axes: independent stages do not multiply.
    first = {axis.key: 0 for axis in axes}
    found = [first]
    for own in dict.fromkeys(map(tuple, of_stages)):
        for indices in itertools.product(*(range(len(axis.values)) for axis in own)):  # the last axis varies first
            found.append({**first, **dict(zip((axis.key for axis in own), indices, strict=True))})
    return tuple({tuple(choice.items()): choice for choice in found}.values())


def _axes_of_stages(document: Document, axes: Sequence[Axis]) -> dict[str, tuple[Axis, ...]]:
    tables = document.stages
    own = {name: {axis.key for axis in axes if _depends(name, tables[name], axis)} for name in tables}
    inputs: dict[str, set[str]] = {name: set() for name in tables}
    # The value of one axis decides a reference, whatever the other axes have.
    for choice in _choices(axes, [[axis] for axis in axes]):
        for name, links in inputs_of(chosen(document, axes, choice)).items():
            inputs.setdefault(name, set()).update(link.target for link in links)
    # Dependence is transitive, and stages may be written in any order: repeat until a round adds nothing.
    changed = True
    while changed:
        before = {name: len(keys) for name, keys in own.items()}
        for name in own:
            if not gathers(tables[name]):
                own[name] |= {key for other in inputs[name] for key in own.get(other, ())}
        changed = before != {name: len(keys) for name, keys in own.items()}
    return {name: tuple(axis for axis in axes if axis.key in keys) for name, keys in own.items()}


def _label(location: Location, among: Sequence[Location]) -> str:
    """The last part of a key, or as many parts as tell it from the other keys."""
    counts = range(1, len(location) + 1)
    alone = (count for count in counts if sum(other[-count:] == location[-count:] for other in among) == 1)
    return ".".join(_word(str(part)) for part in location[-next(alone, len(location)) :])


def _check_axis(key: str, values: Any, document: Document) -> Problem | None:
    """The mistake in a key of the matrix or in its values; None where both are right."""

    def problem(message: str, *inner: int, on_key: bool = False, hint: str | None = None) -> Problem:
        place = document.place(("matrix", key, *inner), on_key=on_key)
        return Problem(place=place, message=f"{key}: {message}", hint=hint)

    if not isinstance(values, list) or not values:
        return problem(f"expected a list of values, got {shown(values) if values != [] else 'an empty one'}")
    if len(values) > MOST_STAGES:
        return problem(f"expected at most {MOST_STAGES} values, got {len(values)}")
    for index, value in enumerate(values):
        try:
            check_plain(value)
        except InputError as error:
            return problem(error.message, index)
    if len({json.dumps(value, sort_keys=True) for value in values}) != len(values):
        return problem("expected different values, got one of them twice")
    location = _location(key)
    if not location or not _is_place(location):
        message = 'expected `seed`, a key of [model], or a key of a stage as in "stage.at.epochs"'
        return problem(message, on_key=True)
    if location[0] == "data":
        hint = "write a second recipe that includes this one"
        return problem("a recipe has one data set, so [data] cannot vary", on_key=True, hint=hint)
    if location[0] == "stage" and location[2:] == ("kind",):
        return problem("the kind of a stage cannot vary", on_key=True)
    if location[0] == "stage" and gathers(document.stages.get(str(location[1]), {})):
        return problem("a report is about all repetitions at once, so nothing in it can vary", on_key=True)
    missing = missing_stage(document, location)
    if missing is not None:
        return problem(missing[0], on_key=True, hint=missing[1])
    try:
        document.with_value(location, values[0], (document.origin(())[0], ()))
    except NoTableError as error:
        return problem(f"{'.'.join(map(str, error.location))} is not a table", on_key=True)
    return None


def _location(key: str) -> Location:
    return ("recipe", "seed") if key in ("seed", "recipe.seed") else parse_key(key) or ()


def _is_place(location: Location) -> bool:
    return {"stage": len(location) >= 3, "model": len(location) >= 2, "data": True}.get(
        str(location[0]), location == ("recipe", "seed")
    )


def _words(values: Sequence[Any]) -> tuple[str, ...]:
    """A word for each value: the value if it can be part of a name, otherwise its number, counted from one."""
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
    return isinstance(kind, str) and "seed" in table_of(kind).model_fields and "seed" not in table

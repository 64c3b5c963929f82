"""How the stages of a recipe refer to each other: every reference with its place, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.errors import InputError, suggest
from surgery.hierarchy import NAMED, named
from surgery.recipe.fields import FilePath, Reference
from surgery.recipe.merging import Merged
from surgery.recipe.problems import Problem
from surgery.toml import Location
from surgery.validation import shown

DATA = "data"
"""The name of the data set's own hierarchy."""

CHECKPOINTS = ("best", "last")


@dataclass(frozen=True, kw_only=True)
class Link:
    """A reference of a stage: `role` is the dotted key under which it stands, `target` the stage that it names."""

    stage: str
    role: str
    location: Location
    text: str
    target: str
    checkpoint: str | None
    reference: Reference


def links(merged: Merged) -> Iterator[Link]:
    """All references in a recipe, right or wrong, of stages whose kind is known."""
    for visited in merged.visited:
        for marker in visited.markers:
            if isinstance(marker, Reference) and isinstance(visited.value, str):
                yield _link(visited.location, visited.value, marker)


def stage_tables(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a recipe's data that are tables."""
    stages = data.get("stage")
    return {} if not isinstance(stages, dict) else {name: t for name, t in stages.items() if isinstance(t, dict)}


def inputs_of(merged: Merged) -> dict[str, tuple[Link, ...]]:
    """For each stage the references that lead to other stages; a report that names none refers to all."""
    tables = stage_tables(merged.data)
    found: dict[str, list[Link]] = {name: [] for name in tables}
    for link in links(merged):
        if link.target in tables and link.stage in tables:
            found[link.stage].append(link)
    for name, table in tables.items():
        if table.get("kind") == "report" and "stages" not in table:
            found[name] += _all_others(name, tables)
    return {name: tuple(inner) for name, inner in found.items()}


def check_links(merged: Merged) -> Iterator[Problem]:
    """What is wrong with the references: stages that are not there, of the wrong kind, or that wait for each other."""
    tables = stage_tables(merged.data)
    for link in links(merged):
        told = _check(link, tables)
        if told is not None:
            yield Problem(place=merged.place(link.location), message=told[0], hint=told[1])
    yield from _cycles(merged)


def _link(location: Location, text: str, reference: Reference) -> Link:
    target, dot, checkpoint = text.partition(".")
    if not (reference.checkpoint and dot):
        target, checkpoint = text, None
    return Link(
        stage=str(location[1]),
        role=".".join(map(str, location[2:])),
        location=location,
        text=text,
        target=target,
        checkpoint=checkpoint,
        reference=reference,
    )


def _all_others(name: str, tables: Mapping[str, Mapping[str, Any]]) -> list[Link]:
    others = [other for other, table in tables.items() if table.get("kind") != "report"]
    return [
        Link(
            stage=name,
            role=f"stages.{index}",
            location=("stage", name),
            text=other,
            target=other,
            checkpoint=None,
            reference=Reference(kinds=()),
        )
        for index, other in enumerate(others)
    ]


def _check(link: Link, tables: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None] | None:
    """What to say against a reference, and a hint."""
    table = tables.get(link.target)
    if table is None:
        return _check_hierarchy(link, tables) if link.reference.or_hierarchy else _missing(link, tables)
    kind = table.get("kind")
    if isinstance(kind, str) and kind not in link.reference.kinds:
        fitting = _of_kind(link, tables)
        near = [name for name in fitting if _names(tables[name], link.target)] or fitting
        return (
            f"{_key(link)} = {shown(link.text)} is {_article(kind)} stage; expected {_article(_kinds(link))}",
            f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else f"there is no {_kinds(link)}",
        )
    return _check_checkpoint(link)


def _check_checkpoint(link: Link) -> tuple[str, str | None] | None:
    if link.checkpoint is None or link.checkpoint in CHECKPOINTS:
        return None
    hint = suggest(link.checkpoint, CHECKPOINTS)
    return f"{_key(link)} = {shown(link.text)}: the checkpoints of a train stage are best and last", hint


def _check_hierarchy(link: Link, tables: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None] | None:
    if link.text == DATA or FilePath(suffixes=(".toml", ".json")).fits(link.text):
        return None
    try:
        named(link.text)
    except InputError:
        known = [*_of_kind(link, tables), DATA, *NAMED]
        hint = suggest(link.text, known) or f"there are {', '.join(known)}, and files"
        return f"{_key(link)} = {shown(link.text)}: no stage or known hierarchy is called that", hint
    return None


def _missing(link: Link, tables: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None]:
    fitting = _of_kind(link, tables)
    hint = suggest(link.target, fitting) or suggest(link.target, tables)
    listed = f"there are {', '.join(fitting)}" if fitting else f"there is no {_kinds(link)}"
    return f"{_key(link)} = {shown(link.text)}: no stage is called {shown(link.target)}", hint or listed


def _of_kind(link: Link, tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name, table in tables.items() if table.get("kind") in link.reference.kinds]


def _names(table: Mapping[str, Any], target: str) -> bool:
    """Whether a stage refers to `target`, which makes it likely that it was meant."""
    return any(isinstance(value, str) and value.partition(".")[0] == target for value in table.values())


def _kinds(link: Link) -> str:
    kinds = link.reference.kinds
    if len(kinds) > 3:
        return "stage that is no report"
    return f"{' or '.join(kinds)} stage"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _key(link: Link) -> str:
    return next(str(part) for part in reversed(link.location) if isinstance(part, str))


def _cycles(merged: Merged) -> Iterator[Problem]:
    """One problem for each circle of stages, at the reference that closes it."""
    inputs = inputs_of(merged)
    done: set[str] = set()
    for start in inputs:
        yield from _circles_from(start, inputs, done, merged)


def _circles_from(
    start: str, inputs: Mapping[str, tuple[Link, ...]], done: set[str], merged: Merged
) -> Iterator[Problem]:
    """Depth first without recursion: `path` is the stages that wait, each with what is left of its references."""
    path: list[tuple[str, list[Link]]] = [] if start in done else [(start, list(inputs[start]))]
    while path:
        name, left = path[-1]
        if not left:
            done.add(name)
            path.pop()
            continue
        link = left.pop(0)
        waiting = [item for item, _ in path]
        if link.target in waiting:
            yield _circle(merged, link, waiting[waiting.index(link.target) :])
        elif link.target not in done:
            path.append((link.target, list(inputs[link.target])))


def _circle(merged: Merged, link: Link, waiting: Sequence[str]) -> Problem:
    message = f"stages wait for each other: {' -> '.join([*waiting, link.target])}"
    if len(waiting) == 1:
        message = f"stage {link.target!r} refers to itself"
    return Problem(place=merged.place(link.location), message=message, hint="no stage can run first")

"""References between the stages of a recipe, with their places, and the mistakes in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from surgery.errors import InputError, suggest
from surgery.hierarchy import NAMED, named
from surgery.plugins import constant_of, reference_of
from surgery.recipe.document import Document
from surgery.recipe.problems import Problem
from surgery.stages.extension import GROUP
from surgery.stages.fields import DATA, FilePath, Reference
from surgery.stages.registry import KINDS, table_of
from surgery.toml import Location
from surgery.validation import shown

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


def links(document: Document) -> Iterator[Link]:
    """All references in a recipe, right or wrong, of stages of a known kind."""
    for visited in document.visited:
        for marker in visited.markers:
            if isinstance(marker, Reference) and isinstance(visited.value, str):
                yield _link(visited.location, visited.value, marker)
    # Which keys of an extension are references is written in its class, which is not imported here: so every text
    # that names another stage is one, except a report, which no stage can read.
    for name, table in document.stages.items():
        if isinstance(table.get("kind"), str) and table["kind"] not in KINDS:
            for location, text in _texts(table, ("stage", name)):
                link = _link(location, text, Reference(kinds=(), checkpoint=True))
                target = document.stages.get(link.target)
                reads = target is not None and link.target != name and not gathers(target)
                if reads and link.checkpoint in (None, *CHECKPOINTS) and location[2:] != ("kind",):
                    yield link


def _texts(value: Any, location: Location) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*location, key))


def inputs_of(document: Document) -> dict[str, tuple[Link, ...]]:
    """For each stage the references that lead to other stages; a report that names none refers to all."""
    tables = document.stages
    found: dict[str, list[Link]] = {name: [] for name in tables}
    for link in links(document):
        if link.target in tables and link.stage in tables:
            found[link.stage].append(link)
    for name, table in tables.items():
        if gathers(table) and "stages" not in table:
            found[name] += _all_others(name, tables)
    return {name: tuple(inner) for name, inner in found.items()}


def gathers(table: Mapping[str, Any]) -> bool:
    """Whether a stage is about all repetitions of its inputs at once, as a report is."""
    kind = table.get("kind")
    reference = reference_of(kind, GROUP) if isinstance(kind, str) and kind not in KINDS else None
    if reference is None:
        return table_of(kind).gathers
    try:
        return constant_of(reference, "gathers") is True
    except InputError:
        return False  # a mistake that its table reports


def check_links(document: Document) -> Iterator[Problem]:
    """Wrong references: to stages that do not exist or are of the wrong kind, and in circles."""
    tables = document.stages
    for link in links(document):
        mistake = _check(link, tables)
        if mistake is not None:
            yield Problem(place=document.place(link.location), message=mistake[0], hint=mistake[1])
    yield from _cycles(document)


def check_reference(document: Document, location: Location, text: str, reference: Reference) -> Iterator[Problem]:
    """The mistake, if any, in a reference of an extension, after the run imported its class."""
    mistake = _check(_link(location, text, reference), document.stages)
    if mistake is not None:
        yield Problem(place=document.place(location), message=mistake[0], hint=mistake[1])


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
    others = [other for other, table in tables.items() if not gathers(table)]
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
    """The message and hint for a wrong reference; None for a right one."""
    table = tables.get(link.target)
    if table is None:
        return _check_hierarchy(link, tables) if link.reference.or_hierarchy else _missing(link, tables)
    kind = table.get("kind")
    # An unknown kind is a mistake of its own, which is reported there.
    if isinstance(kind, str) and (kind in KINDS or reference_of(kind, GROUP) is not None) and not _fits(table, link):
        fitting = _of_kind(link, tables)
        # A stage of the right kind that reads the named one is probably meant: the extraction of that network.
        near = [
            name
            for name in fitting
            if any(isinstance(text, str) and text.partition(".")[0] == link.target for text in tables[name].values())
        ] or fitting
        return (
            f"{_key(link)} = {shown(link.text)} is {_article(kind)} stage; expected {_article(_kinds(link))}",
            f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else f"there is no {_kinds(link)}",
        )
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
        return f"{_key(link)} = {shown(link.text)}: unknown stage or hierarchy", hint
    return None


def _missing(link: Link, tables: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None]:
    fitting = _of_kind(link, tables)
    hint = suggest(link.target, fitting) or suggest(link.target, tables)
    listed = f"there are {', '.join(fitting)}" if fitting else f"there is no {_kinds(link)}"
    return f"{_key(link)}: unknown stage {shown(link.target)}", hint or listed


def _of_kind(link: Link, tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name, table in tables.items() if _fits(table, link)]


def _fits(table: Mapping[str, Any], link: Link) -> bool:
    """Whether the reference may lead to the stage with this table."""
    return table.get("kind") in link.reference.kinds if link.reference.kinds else not gathers(table)


def _kinds(link: Link) -> str:
    kinds = link.reference.kinds
    return f"{' or '.join(kinds)} stage" if kinds else "stage that is not a report"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _key(link: Link) -> str:
    """The key under which the reference stands."""
    return next(str(part) for part in reversed(link.location) if isinstance(part, str))


def _cycles(document: Document) -> Iterator[Problem]:
    """One problem for each circle of stages, at the reference that closes it."""
    inputs = inputs_of(document)
    done: set[str] = set()
    for start in inputs:
        # Depth first, but without recursion: a recipe may be a chain of more stages than Python's stack has frames.
        # `path` holds the stages that wait for each other, each with its references that were not followed yet.
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
                circle = [*waiting[waiting.index(link.target) :], link.target]
                message = f"stages refer to each other in a circle: {' -> '.join(circle)}"
                if len(circle) == 2:
                    message = f"stage {link.target!r} refers to itself"
                hint = "remove one of these references: no stage can run first"
                yield Problem(place=document.place(link.location), message=message, hint=hint)
            elif link.target not in done:
                path.append((link.target, list(inputs[link.target])))

"""`load_recipe`: from a file, its includes and overrides to a checked `Recipe`, in one pass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from surgery.recipe.check import Files, check
from surgery.recipe.document import Document
from surgery.recipe.links import gathers, inputs_of
from surgery.recipe.matrix import MOST_STAGES, Choice, Matrix, chosen, read_matrix
from surgery.recipe.problems import Problem, RecipeError
from surgery.recipe.reading import find_recipe, read_document, shipped_names
from surgery.recipe.recipe import Recipe
from surgery.recipe.schema import RecipeFile
from surgery.stages import Input, Stage
from surgery.stages.registry import table_of
from surgery.toml import read_toml
from surgery.toml_writer import to_toml


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The recipe with one value on each axis of its matrix."""

    choice: Choice
    document: Document


def load_recipe(name_or_path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Recipe:
    """Load a shipped recipe by name, or a file by path.

    `overrides`: pairs of a dotted key and a value as TOML writes it, or a plain text: `("stage.at.epochs", "2")`.

    Raises RecipeError with all mistakes, each with file:line:column or the flag; InputError if there is no such recipe.
    """
    path, problems = find_recipe(name_or_path), list[Problem]()
    document = _named(read_document(path, overrides, problems), path)
    if len(document.stages) > MOST_STAGES:  # checked first: the checks below take minutes for so many
        message = f"expected at most {MOST_STAGES} stages, got {len(document.stages)}"
        raise RecipeError([Problem(place=document.place(("stage",)), message=message)])
    matrix = read_matrix(document, problems)
    variants = [
        Variant(choice=choice, document=_filled(chosen(document, matrix.axes, choice).with_absolute_paths()))
        for choice in matrix.choices
    ]
    files: Files = {}
    problems += [problem for variant in variants for problem in check(variant.document, files)]
    if problems:
        raise RecipeError(problems)
    checked = [RecipeFile.model_validate(variant.document.data) for variant in variants]
    head = checked[0].recipe
    assert head.name is not None, "filled in above"
    return Recipe(
        name=head.name,
        description=head.description,
        seed=head.seed,
        data=checked[0].data,
        stages=_in_order(_stages(matrix, variants, checked)),
        text=to_toml(document.data),
        source=str(path),
        document=document,
    )


def shipped() -> Mapping[str, str]:
    """The recipes that come with the package, by name, each with its description."""
    found = {name: read_toml(find_recipe(name)).data.get("recipe", {}) for name in shipped_names()}
    return {name: head.get("description", "") for name, head in found.items()}


def _named(document: Document, path: Path) -> Document:
    """With the file's name for a recipe that has none."""
    head = document.data.get("recipe", {})
    if not isinstance(head, dict) or "name" in head:
        return document
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:50]
    name = name if name[:1].isalpha() else f"recipe-{name}"
    return document.with_value(("recipe", "name"), name, document.origin(()))


def _filled(document: Document) -> Document:
    """With the recipe's seed and network in stages that have none of their own, and the rules of an extraction."""
    head, model = document.data.get("recipe", {}), document.data.get("model")
    seed = head.get("seed", 0) if isinstance(head, dict) else 0
    for name, table in document.stages.items():
        kind = table.get("kind")
        if isinstance(kind, str) and "seed" in table_of(kind).model_fields and "seed" not in table:
            document = document.copied(("recipe", "seed"), ("stage", name, "seed"), seed)
        if kind == "train" and model is not None and "network" not in table:
            document = document.copied(("model",), ("stage", name, "network"), model)
        if kind == "extract" and "graph" not in table and "rules" not in table:
            document = document.with_value(("stage", name, "rules"), ["linearize"], document.origin(("stage", name)))
    return document


def _stages(matrix: Matrix, variants: Sequence[Variant], checked: Sequence[RecipeFile]) -> list[Stage]:
    """Every repetition of every stage once, in the order of the file."""
    found: dict[str, dict[str, Stage]] = {name: {} for name in matrix.of_stage}
    for variant, file in zip(variants, checked, strict=True):
        links, tables = inputs_of(variant.document), variant.document.stages
        for base, own in matrix.of_stage.items():
            name = matrix.name(base, variant.choice)
            if name in found[base]:
                continue
            inputs = {}
            for link in links[base]:
                # A reference to a train stage means one of its checkpoints, the best one by default.
                trained = tables[link.target].get("kind") == "train" and link.reference.checkpoint
                checkpoint = link.checkpoint or "best" if trained else None
                inputs[link.role] = Input(stage=matrix.name(link.target, variant.choice), checkpoint=checkpoint)
            found[base][name] = Stage(
                name=name,
                base=base,
                kind=str(tables[base]["kind"]),
                parameters=file.stage[base],
                inputs=MappingProxyType(inputs),
                choice=MappingProxyType({axis.key: axis.values[variant.choice[axis.key]] for axis in own}),
            )
    links, tables = inputs_of(variants[0].document), variants[0].document.stages
    stages = []
    for stage in (stage for repeated in found.values() for stage in repeated.values()):
        if gathers(tables[stage.base]):  # a report reads every repetition of the stages that it refers to
            names = dict.fromkeys(name for link in links[stage.base] for name in found[link.target])
            gathered = {f"stages.{number}": Input(stage=name) for number, name in enumerate(names)}
            stage = replace(stage, inputs=MappingProxyType(gathered))
        stages.append(stage)
    return stages


def _in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Each stage after all that it reads; otherwise in the order of the file."""
    # Not graphlib's order, which does not keep that of the file: users expect the stages in the order they wrote them.
    left, done, ordered = list(stages), set[str](), list[Stage]()
    while left:
        ready = next(stage for stage in left if all(item.stage in done for item in stage.inputs.values()))
        left.remove(ready)
        done.add(ready.name)
        ordered.append(ready)
    return tuple(ordered)

"""Whether a recipe fits its data: class names, hierarchies and the images of the splits, before any stage runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from surgery.data import Dataset
from surgery.errors import InputError
from surgery.recipe.problems import Problem, RecipeError
from surgery.recipe.recipe import Recipe
from surgery.stages import Stage
from surgery.stages.cluster import ClusterStage
from surgery.stages.fields import DATA, Reference, known_hierarchy
from surgery.stages.sources import EvaluationStage
from surgery.stages.train import TrainStage
from surgery.toml import Location
from surgery.validation import visit


def load_data(recipe: Recipe, *, download: bool = False) -> Dataset:
    """The data of a recipe with their known superclasses.

    Raises RecipeError with every place of the recipe that does not fit the data, and InputError where the data are
    missing or damaged.
    """
    data, problems = recipe.data.load_images(download=download), list[Problem]()
    try:
        data = recipe.data.with_hierarchy(data)
    except InputError as error:
        problems.append(_problem(recipe, ("data", "hierarchy"), f"hierarchy: {error.message}", error.hint))
    # A missing hierarchy is one mistake, not one for each stage that refers to it.
    known = bool(problems) or data.hierarchy is not None
    empty = [name for name, split in data.splits.items() if not len(split)]
    share, train = recipe.data.validation, len(data.train)
    if share and "validation" in empty and any("validation" in _splits_of(stage) for stage in recipe.stages):
        # One mistake of the data, not one of each stage that shows validation images to a network.
        empty.remove("validation")
        message = f"validation = {share:g} of the {train} training images rounds to no image"
        problems.append(_problem(recipe, ("data", "validation"), message, "hold more out, as 0.05"))
    for stage in recipe.stages:
        problems += _stage_problems(recipe, stage, data, known=known, empty=empty)
    if problems:
        raise RecipeError(problems)
    return data


def _splits_of(stage: Stage) -> dict[str, str]:
    """The splits that a stage shows to a network, each with the dotted key that names it."""
    table = stage.parameters
    if isinstance(table, TrainStage):
        return {table.select.on: "select.on"} if table.select.every else {}
    return {table.split: "split"} if isinstance(table, EvaluationStage) else {}


def _stage_problems(
    recipe: Recipe, stage: Stage, data: Dataset, *, known: bool, empty: Sequence[str]
) -> Iterator[Problem]:
    table, base = stage.parameters, ("stage", stage.base)
    for visited in visit(type(table), table.model_dump()):
        role, text = ".".join(map(str, visited.location)), visited.value
        references = any(isinstance(marker, Reference) and marker.or_hierarchy for marker in visited.markers)
        if not references or not isinstance(text, str) or role in stage.inputs:
            continue
        location = (*base, *visited.location)
        if text != DATA:
            try:
                known_hierarchy(text, data.class_names)
            except InputError as error:
                yield _problem(recipe, location, f"{visited.location[-1]}: {error.message}", error.hint, stage)
        elif not known and isinstance(table, TrainStage):  # a clustering without a reference has no scores
            message = f"{visited.location[-1]}: {data.title} has no known superclasses that {text!r} could mean"
            yield _problem(recipe, location, message, "name a cluster stage or a file, or set data.hierarchy", stage)
    for split, key in _splits_of(stage).items():
        if split in empty:
            message = f"{key}: {data.title} has no {split} images that stage {stage.base} could use"
            hint = "hold some out with data.validation, as 0.05" if split == "validation" else "choose another split"
            yield _problem(recipe, (*base, *key.split(".")), message, hint, stage)
    if isinstance(table, TrainStage) and table.batch_size > len(data.train):
        message = f"batch_size: expected at most the {len(data.train)} training images, got {table.batch_size}"
        yield _problem(recipe, (*base, "batch_size"), f"stage {stage.base}: {message}", None, stage)
    if isinstance(table, ClusterStage) and isinstance(table.superclasses, int):
        source = recipe.stage(stage.inputs["map"].stage)
        # A model file, or an inner node, has as many rows as only the extraction tells.
        trained = "model" in source.inputs and getattr(source.parameters, "at", None) is None
        if trained and table.superclasses > data.num_classes:
            message = f"superclasses: expected at most the {data.num_classes} classes of the data"
            yield _problem(recipe, (*base, "superclasses"), f"{message}, got {table.superclasses}", None, stage)


def _problem(recipe: Recipe, location: Location, message: str, hint: str | None, stage: Stage | None = None) -> Problem:
    """A problem at the value, or at the key of the matrix that gives the value."""
    key = ".".join(map(str, location))
    if stage is not None and key in stage.choice:
        location = ("matrix", key)
    return Problem(place=recipe.document.place(location), message=message, hint=hint)

"""`load_recipe`: a file, what it includes and what is set beside it, checked as a whole and expanded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from surgery.recipe.assembling import Variant, assemble
from surgery.recipe.checking import Files, check
from surgery.recipe.expansion import axes_of_stages, check_size, choices, chosen, read_axes
from surgery.recipe.merging import Merged
from surgery.recipe.problems import RecipeError
from surgery.recipe.reading import anchored, find_recipe, read_recipe, shipped_names
from surgery.recipe.recipe import Recipe
from surgery.recipe.references import stage_tables
from surgery.recipe.stages import STAGES
from surgery.toml import read_toml


def load_recipe(name_or_path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Recipe:
    """Load a shipped recipe by name, or a file by path.

    `overrides`: pairs of a dotted key and a value as TOML writes it, or a plain text: `("stage.at.epochs", "2")`.

    Raises RecipeError with everything that is wrong, each with file:line:column or the flag; InputError where there is
    no such recipe.
    """
    path = find_recipe(name_or_path)
    merged, problems = read_recipe(path, overrides)
    merged = _named(merged, path)
    axes, wrong = read_axes(merged)
    problems += wrong
    depends = axes_of_stages(merged, axes)
    too_many = list(check_size(merged, depends.values()))
    variants = [
        Variant(choice=choice, merged=_filled(anchored(chosen(merged, axes, choice))))
        for choice in choices(axes, [] if too_many else depends.values())
    ]
    files: Files = {}
    problems += [*too_many, *(problem for variant in variants for problem in check(variant.merged, files))]
    if problems:
        raise RecipeError(problems)
    return assemble(merged, depends, variants, str(path))


def shipped() -> Mapping[str, str]:
    """The recipes that come with the package, by name, each with its description."""
    found = {name: read_toml(find_recipe(name)).data.get("recipe", {}) for name in shipped_names()}
    return {name: head.get("description", "") for name, head in found.items()}


def _named(merged: Merged, path: Path) -> Merged:
    """With the file's name for a recipe that has none."""
    head = merged.data.get("recipe", {})
    if not isinstance(head, dict) or "name" in head:
        return merged
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:50]
    return merged.with_value(("recipe", "name"), name if name[:1].isalpha() else f"recipe-{name}", merged.origin(()))


def _filled(merged: Merged) -> Merged:
    """With the recipe's seed and network in stages that have none of their own, and the rules of an extraction."""
    head, model = merged.data.get("recipe", {}), merged.data.get("model")
    seed = head.get("seed", 0) if isinstance(head, dict) else 0
    for name, table in stage_tables(merged.data).items():
        kind = table.get("kind")
        fields = STAGES[kind].model_fields if isinstance(kind, str) and kind in STAGES else {}
        if "seed" in fields and "seed" not in table:
            merged = merged.with_value(("stage", name, "seed"), seed, merged.origin(("recipe", "seed")))
        if kind == "train" and model is not None and "network" not in table:
            merged = merged.with_value(("stage", name, "network"), model, merged.origin(("model",)))
        if kind == "extract" and "graph" not in table and "rules" not in table:
            merged = merged.with_value(("stage", name, "rules"), ["linearize"], merged.origin(("stage", name)))
    return merged

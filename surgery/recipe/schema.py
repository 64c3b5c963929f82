"""The whole of a recipe's file, and its JSON Schema for editors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from surgery.recipe.fields import Name, Seed, Table
from surgery.recipe.network import DataTable, NetworkTable
from surgery.recipe.stages import AnyStage


class RecipeTable(Table):
    """What the recipe is."""

    name: Name | None = Field(default=None, description="Names the run folder; the file's name by default.")
    description: str = Field(default="", description="One sentence: what it is for.")
    seed: Seed = Field(default=0, description="Seed of the stages that have none of their own.")


class RecipeFile(Table):
    """A chain of experiments on one data set: networks, what is trained and measured, and in which variants."""

    include: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Recipes that this one adds to, by path from this file; what comes later wins."
    )
    recipe: RecipeTable = Field(default=RecipeTable(), description="What the recipe is.")
    data: DataTable = Field(description="The images that all stages see.")
    model: NetworkTable | None = Field(default=None, description="The network of stages that name none.")
    stage: Annotated[dict[Name, AnyStage], Field(min_length=1)] = Field(description="What is done, by name.")
    matrix: dict[str, Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]] = Field(
        default={},
        description="Lists of values for `seed` or dotted keys; stages are repeated for each that they depend on.",
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", **RecipeFile.model_json_schema()}

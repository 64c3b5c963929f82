"""The tables of a whole recipe file, and its JSON Schema for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union

from pydantic import Discriminator, Field, Tag

from surgery.stages.extension import ExtensionStage
from surgery.stages.fields import Name, Seed, Table
from surgery.stages.network import DataTable, NetworkTable
from surgery.stages.registry import KINDS
from surgery.stages.stage import StageTable


def _kind(table: Any) -> str | None:
    """The tag of a stage's table; None, for which pydantic reports a missing kind, if it has none."""
    kind = table.get("kind") if isinstance(table, Mapping) else getattr(table, "kind", None)
    return kind if isinstance(kind, str) and kind in KINDS else None if kind is None else "extension"


# The union is told apart by a function, not by the key `kind`: the kind of an extension is any text.
_KINDS = tuple(Annotated[table, Tag(kind)] for kind, table in {**KINDS, "extension": ExtensionStage}.items())

if TYPE_CHECKING:
    AnyStage = StageTable
else:  # a union made of the registry is not a static type
    AnyStage = Annotated[Union[_KINDS], Discriminator(_kind)]  # noqa: UP007


class RecipeTable(Table):
    """Name, purpose and seed of the recipe."""

    heading: ClassVar[str] = "`[recipe]`"

    name: Name | None = Field(default=None, description="Names the run folder; the file's name by default.")
    description: str = Field(default="", description="The purpose of the recipe, in one sentence.")
    seed: Seed = Field(default=0, description="Seed of stages that have none of their own.")


class RecipeFile(Table):
    """Experiments on one data set: networks, stages, and the values for which stages are repeated."""

    heading: ClassVar[str] = "The file"

    include: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Recipes that this one extends, by path relative to this file; later values win."
    )
    recipe: RecipeTable = Field(default=RecipeTable(), description="Name, purpose and seed of the recipe.")
    data: DataTable = Field(description="The data set of all stages.")
    model: NetworkTable | None = Field(default=None, description="The network of stages without their own.")
    stage: Annotated[dict[Name, AnyStage], Field(min_length=1)] = Field(description="What is done, by name.")
    matrix: dict[str, Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]] = Field(
        default={},
        description="Lists of values for `seed` or dotted keys; a stage is repeated for each value that it depends on.",
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", **RecipeFile.model_json_schema()}

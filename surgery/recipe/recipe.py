"""A recipe that was checked, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surgery.errors import InputError, suggest
from surgery.recipe.fields import StageKind, Table
from surgery.recipe.network import DataTable


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a stage reads of another: of a train stage its `best` or `last` checkpoint."""

    stage: str
    checkpoint: str | None = None

    def __str__(self) -> str:
        return f"{self.stage}.{self.checkpoint}" if self.checkpoint else self.stage


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage, complete with all defaults.

    `name` is that in the file, `base`, with the values of the matrix that it was repeated for, which are `choice` by
    the keys of the matrix.
    `inputs`: the stages that it reads, by the dotted key of `parameters` that refers to them, such as
    `objective.cluster.hierarchy`.
    """

    name: str
    base: str
    kind: StageKind
    parameters: Table
    inputs: Mapping[str, Input]
    choice: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A chain of stages on one data set; a stage stands behind all that it reads.

    `text`: the whole recipe as TOML, with what it includes and what was set beside it, which loads to the same stages.
    `source`: the file that it was loaded from.
    """

    name: str
    description: str
    seed: int
    data: DataTable
    stages: tuple[Stage, ...]
    text: str
    source: str

    def stage(self, name: str) -> Stage:
        """The stage called `name`; raises InputError with the nearest names."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise InputError(f"recipe {self.name} has no stage {name!r}", hint=suggest(name, names))

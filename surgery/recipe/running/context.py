"""What a stage has to work with while it runs, and what it says meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from surgery.data import Dataset
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy
from surgery.models import open_model
from surgery.recipe.keys import StageRecord
from surgery.recipe.recipe import Input, Recipe, Stage
from surgery.recipe.running.folder import RECORD, RunFolder
from surgery.recipe.running.values import hierarchy_in, known_hierarchy, network_arguments
from surgery.store import provenance

State = Literal["cached", "running", "done"]


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """Where a run is: `number` of `count` stages, counted from one, and `done` of `total` steps of this one.

    `text`: what there is to say in words. `lasting`: whether it should stay to be read, as the line of an epoch.
    """

    stage: str
    kind: str
    number: int
    count: int
    state: State
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    text: str = ""
    lasting: bool = False


Report = Callable[[StageProgress], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """One stage of a recipe in its run folder.

    `tell`: called with the fields of a `StageProgress` that change. `started`: seconds of a clock, for the wall time.
    `leads`: whether this is the process that writes, of several that train together.
    """

    recipe: Recipe
    stage: Stage
    record: StageRecord
    folder: RunFolder
    data: Dataset
    device: str
    tell: Callable[..., None]
    started: float
    leads: bool = True

    @property
    def seed(self) -> int:
        """The seed of the stage."""
        seed = getattr(self.stage.parameters, "seed", None)
        return self.recipe.seed if seed is None else seed

    def input(self, role: str) -> Input:
        """The stage that the parameter `role` refers to."""
        return self.stage.inputs[role]

    def network(self) -> nn.Module:
        """The network that `model` or `file` of the stage means, in evaluation mode."""
        parameters: Any = self.stage.parameters
        if parameters.model is None:
            return self._network_in_file(parameters)
        return self.checkpoint(self.input("model"))

    def _network_in_file(self, parameters: Any) -> nn.Module:
        if parameters.network is None:
            return open_model(parameters.file).module
        arguments = network_arguments(parameters.network, self.data)
        return open_model(parameters.file, architecture=parameters.network.architecture, arguments=arguments).module

    def checkpoint(self, of: Input) -> nn.Module:
        """The network of a train stage."""
        return open_model(self.folder.checkpoints(of.stage) / f"{of.checkpoint}.safetensors").module

    def hierarchy(self, role: str, text: str) -> Hierarchy | None:
        """The hierarchy that the parameter `role`, which is `text`, refers to: of a cluster stage, or a known one."""
        if role not in self.stage.inputs:
            return known_hierarchy(text, self.data)
        return hierarchy_in(self.folder.read(self.input(role).stage))

    def steps(self, text: str) -> Callable[[int, int], None]:
        """A function to call with the steps done and their number; it says how long the rest will take."""
        start = time.perf_counter()

        def tell(done: int, total: int) -> None:
            left = (time.perf_counter() - start) / done * (total - done) if done else None
            self.tell(done=done, total=total, seconds_left=left, text=text)

        return tell

    def provenance(self) -> Mapping[str, str]:
        """How the group of the stage comes about, with the record by which a later run knows it."""
        said = provenance(
            recipe=self.recipe.text,
            parameters=self.stage.parameters.model_dump(mode="json"),
            device=self.device,
            seeds={"stage": self.seed},
            data_digest=self.data.digest,
            wall_seconds=time.perf_counter() - self.started,
        )
        return {**said, RECORD: json.dumps(self.record.as_json(), ensure_ascii=False)}


def needed(hierarchy: Hierarchy | None, what: str, data: Dataset) -> Hierarchy:
    """The hierarchy; raises InputError where the data set knows none."""
    if hierarchy is None:
        raise InputError(f"{what} refers to the hierarchy of the data, but {data.title} has none")
    return hierarchy

"""What a stage is: its table in a recipe, its place in a run, its inputs, and its outputs.

A stage kind is one subclass of `StageTable` in one file: its fields are the keys of its table, its methods say what it
costs, what it does, which figures it has and what the summary says about it. `registry.py` lists the kinds.
"""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from surgery.data import Dataset
from surgery.hierarchy import Hierarchy
from surgery.models import open_model
from surgery.stages.fields import DATA, Table, known_hierarchy
from surgery.stages.findings import Finding, Section
from surgery.stages.folder import RECORD, RunFolder
from surgery.stages.network import NetworkTable, network_arguments
from surgery.store import Group, provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Callable[[], "Figure"]]
"""Functions that draw figures, by the name of their content: the name of the file is `STAGE-NAME.png`."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of images in the splits of a data set, and of its classes."""

    train: int
    validation: int
    test: int
    classes: int

    @staticmethod
    def of_data(data: Dataset) -> Sizes:
        """The sizes of `data`."""
        sizes = {name: len(split) for name, split in data.splits.items()}
        return Sizes(**sizes, classes=data.num_classes)

    def of(self, split: str, images: int | None) -> int:
        """The number of images that a stage sees: those of `split`, or only `images` of them."""
        size = {"train": self.train, "validation": self.validation, "test": self.test}[split]
        return size if images is None else min(images, size)


class StageTable(Table, ABC):
    """A stage kind: the table that a recipe writes, and its methods.

    `version`: raised when the kind computes something else from the same parameters, so that its stages run again.
    `sections`: the sections of the summary that it adds to. `files`, `temporary`: files that a stage leaves next to its
    group, and files that it needs only to resume, relative to the run folder, with `{}` for the stage's name. `mark`:
    the file that records by its key which stage these files belong to; kinds with `files` need one. `collective`: under
    a launcher such as `torchrun`, all processes run the stage together. `gathers`: one stage reads all repetitions of
    its inputs. `uses_hierarchy`: the known superclasses of the data affect the result, whatever the table says.
    """

    version: ClassVar[int] = 1
    sections: ClassVar[tuple[Section, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    temporary: ClassVar[tuple[str, ...]] = ()
    mark: ClassVar[str] = ""
    collective: ClassVar[bool] = False
    gathers: ClassVar[bool] = False
    uses_hierarchy: ClassVar[bool] = False

    @abstractmethod
    def run(self, context: Context) -> Group:
        """Run the stage, and return its group of the store."""

    def passes(self, sizes: Sizes) -> int:
        """About how many images go forward and back through a network; attacks that stop early need fewer."""
        return 0

    def draw(self, finished: Finished) -> Figures:
        """The figures of a finished stage; none by default."""
        return {}

    def findings(self, finished: Finished) -> Iterable[Finding]:
        """The findings of a finished stage for the summary; none by default."""
        return ()

    def compare(self, mine: Finished, other: Finished) -> Iterable[Finding]:
        """The findings of the comparison of two finished stages of this kind, for the summary; none by default."""
        return ()

    def in_words(self) -> str:
        """How a network of this kind was trained, for titles of figures; empty for kinds that make no network."""
        return ""

    # A class method: a run folder knows the kind of an earlier stage, but not its parameters.
    @classmethod
    def files_of(cls, stage: str, folder: RunFolder) -> tuple[str, ...]:
        """The files without which the stage called `stage` is not finished."""
        return tuple(file.format(stage) for file in cls.files)


@dataclass(frozen=True, kw_only=True)
class Input:
    """A stage that another one reads; for a train stage also which checkpoint, `best` or `last`."""

    stage: str
    checkpoint: str | None = None

    def __str__(self) -> str:
        return f"{self.stage}.{self.checkpoint}" if self.checkpoint else self.stage


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a recipe, complete with all defaults.

    `name`: `base`, its name in the file, followed by the values of the matrix that it is repeated for. `choice`: these
    values by the keys of the matrix. `inputs`: the stages that it reads, by the dotted key of `parameters` that refers
    to them, such as `objective.cluster.hierarchy`.
    """

    name: str
    base: str
    kind: str
    parameters: StageTable
    inputs: Mapping[str, Input]
    choice: Mapping[str, Any]


State = Literal["cached", "running", "done"]


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """How far a run is: stage `number` of `count`, counted from one, and `done` of `total` steps of this stage.

    `text`: the same in words. `lasting`: whether the text should stay visible, as the line of an epoch does.
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


Listener = Callable[[StageProgress], None]
"""Called with everything that happens in a run; an exception that it raises stops the run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What a stage works with while it runs.

    `key`, `record`: the stage's key, and its record as JSON. `recipe`: the text of the recipe. `reads`: the finished
    stages that a report is about. `extensions`: the architectures of train stages that are not surgery's own, by stage.
    `progress`: where the run is. `started`: seconds of a clock, for the wall time.
    `leads`: whether this process is the one that writes, of several that train together.
    """

    stage: Stage
    key: str
    record: str = field(repr=False)
    recipe: str = field(repr=False)
    seed: int
    reads: tuple[Finished, ...] = field(repr=False)
    extensions: Mapping[str, str]
    folder: RunFolder
    data: Dataset
    device: str
    progress: StageProgress
    listener: Listener
    started: float
    leads: bool = True

    @property
    def name(self) -> str:
        """The name of the stage, and of its group."""
        return self.stage.name

    def tell(self, **changes: Any) -> None:
        """Report progress: the fields of `StageProgress` that change."""
        self.listener(replace(self.progress, **changes))

    def steps(self, text: str) -> Callable[[int, int], None]:
        """A function that reports how many steps of how many are done, with an estimate of the time left."""
        start = time.perf_counter()

        def tell(done: int, total: int) -> None:
            left = (time.perf_counter() - start) / done * (total - done) if done else None
            self.tell(done=done, total=total, seconds_left=left, text=text)

        return tell

    def claim(self) -> bool:
        """Take possession of the stage's files in the run folder; return whether they were this stage's before."""
        table = type(self.stage.parameters)
        files = [file.format(self.name) for file in (*table.files, *table.temporary)]
        return self.folder.claim(table.mark.format(self.name), self.key, files)

    def checkpoint(self, role: str) -> nn.Module:
        """The network of the train stage that the parameter `role` refers to, in evaluation mode."""
        source = self.stage.inputs[role]
        path = self.folder.checkpoints(source.stage) / f"{source.checkpoint}.safetensors"
        # The code of an extension runs because the recipe names it, never because a file does.
        return open_model(path, architecture=self.extensions.get(source.stage)).module

    def network(self, file: str | None, table: NetworkTable | None) -> nn.Module:
        """The network that `model` or `file` of the stage refers to, in evaluation mode."""
        if file is None:
            return self.checkpoint("model")
        if table is None:
            return open_model(file).module
        arguments = network_arguments(table, self.data)
        return open_model(file, architecture=table.architecture, arguments=arguments).module

    def hierarchy(self, role: str, text: str) -> Hierarchy | None:
        """The hierarchy that the parameter `role` with the value `text` refers to.

        It is that of a cluster stage, that of the data set (None if the data set has none), a known one, or a file's.
        """
        if role in self.stage.inputs:
            return hierarchy_in(self.folder.read(self.stage.inputs[role].stage))
        if text == DATA:
            return self.data.hierarchy
        return known_hierarchy(text, self.data.class_names)

    def provenance(self) -> Mapping[str, str]:
        """How the stage's group came about, with the record by which a later run recognizes it."""
        said = provenance(
            recipe=self.recipe,
            parameters=self.stage.parameters.model_dump(mode="json"),
            device=self.device,
            seeds={"stage": self.seed},
            data_digest=self.data.digest,
            wall_seconds=time.perf_counter() - self.started,
        )
        return {**said, RECORD: self.record}


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A finished stage, for its figures and for the summary.

    `model`: the network that it is about, as the recipe calls it. `data`: the title of the data set. `known`: the
    hierarchy of the data, or None. `words`: the network in words, for titles. `others`: all finished stages of the
    report, this one included, with which figures share their scales and their order of classes.
    """

    stage: Stage
    model: str
    folder: RunFolder
    data: str
    known: Hierarchy | None
    words: str = ""
    others: Sequence[Finished] = field(default=(), repr=False)

    # Read when it is asked for: a report asks each stage for figures and findings, but not every stage has any.
    @cached_property
    def group(self) -> Group:
        """The stage's group of the store."""
        return self.folder.read(self.stage.name)

    @property
    def title(self) -> str:
        """The title of the stage's figures."""
        return f"{self.words or self.model}, {self.data}"

    @property
    def peers(self) -> tuple[Finished, ...]:
        """The finished stages of the same kind, this one included: their figures are compared, on one scale."""
        return tuple(other for other in self.others if other.stage.kind == self.stage.kind) or (self,)

    def ordered(self, classes: Sequence[str]) -> Mapping[str, Any]:
        """The arguments `hierarchy` and `order` of a figure of these classes: by superclass where there are any.

        The known superclasses come first, so that figures of different networks have one order; without them, those
        that a cluster stage found in the same network.
        """
        same = (other for other in self.others if other.stage.kind == "cluster" and other.model == self.model)
        found = itertools.chain([self.known], (hierarchy_in(other.group) for other in same))
        for hierarchy in found:
            if hierarchy is not None and set(hierarchy.class_names) == set(classes):
                return {"hierarchy": hierarchy.for_classes(classes), "order": "hierarchy"}
        return {"hierarchy": None, "order": "label"}

    def known_for(self, classes: Sequence[str]) -> Hierarchy | None:
        """The known hierarchy, if it is about exactly these classes in this order."""
        return self.known if self.known is not None and self.known.class_names == tuple(classes) else None

    def input(self, role: str) -> Group:
        """The group of the stage that the parameter `role` refers to."""
        return self.folder.read(self.stage.inputs[role].stage)


def model_of(stage: Stage, stages: Mapping[str, Stage]) -> str:
    """The network that a stage is about, as the recipe calls it; found through its maps and graphs if need be."""
    for role in ("model", "graph", "map"):
        if role in stage.inputs:
            found = stage.inputs[role]
            return str(found) if role == "model" else model_of(stages[found.stage], stages)
    return str(getattr(stage.parameters, "file", None) or stage.name)


def in_words(stage: Stage, stages: Mapping[str, Stage]) -> str:
    """The network that a stage is about in words, as in `adversarially trained, best epoch`; empty without any.

    Repetitions of a matrix add their values, and train stages of the same words their names.
    """
    roles = [role for role in ("model", "graph", "map") if role in stage.inputs]
    found = stage.inputs[roles[0]] if roles else Input(stage=stage.name)
    if roles and roles[0] != "model":
        return in_words(stages[found.stage], stages)
    source = stages[found.stage]
    words = source.parameters.in_words()
    if not words:
        return ""
    alike = {other.base for other in stages.values() if other.parameters.in_words() == words}
    tags = [tag.replace("-", " ", 1) for tag in source.name.partition("@")[2].split("+") if tag]
    name = f"{words} ({source.base})" if len(alike) > 1 else words
    return ", ".join([name, *tags, *([f"{found.checkpoint} epoch"] if found.checkpoint else [])])


def as_array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor on any device."""
    return tensor.detach().cpu().numpy()


def has(group: Group, name: str) -> bool:
    """Whether the group has a variable of this name: stages leave out variables that would be empty."""
    return any(item.name == name for item in group.variables)


def hierarchy_in(group: Group) -> Hierarchy:
    """The hierarchy that a cluster stage found."""
    merges = group["merges"].tolist() if has(group, "merges") else None
    return Hierarchy.of_labels(
        group["superclass"].tolist(),
        class_names=tuple(map(str, group["class"])),
        merges=None if merges is None else tuple((int(a), int(b), height, int(size)) for a, b, height, size in merges),
        method=str(group.attributes["method"]),
    )

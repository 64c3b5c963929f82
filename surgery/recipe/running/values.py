"""From the tables of a recipe to the values that need more than one of them: data, networks, hierarchies, plans."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from surgery.data import Dataset, Split, load
from surgery.data.draws import stream
from surgery.data.sampling import balanced
from surgery.hierarchy import NAMED, Hierarchy, load_hierarchy, named
from surgery.models import build
from surgery.models.registry import find
from surgery.recipe.network import DataTable, NetworkTable
from surgery.recipe.references import DATA
from surgery.recipe.stages import EvaluationStage, TrainStage
from surgery.store import Group
from surgery.train import ClusterPenalty, TrainingConfig


def load_data(table: DataTable, *, download: bool = False) -> Dataset:
    """The data set of a recipe."""
    return load(
        table.name,
        table.root,
        download=download or table.download,
        validation=table.validation,
        train_size=table.train_size,
        test_size=table.test_size,
        image_size=table.image_size,
        seed=table.seed,
        **table.parameters,
    )


def images_of(stage: EvaluationStage, data: Dataset) -> Split:
    """The images that a stage looks at, the same ones for every seed."""
    split: Split = getattr(data, stage.split)
    if stage.images is None or stage.images >= len(split):
        return split
    return split.subset(balanced(split.labels, stage.images, stream(0, "images of a stage")))


def network_arguments(table: NetworkTable, data: Dataset) -> dict[str, Any]:
    """The arguments of a network for `data`: those of the table, with channels, size and classes of the images."""
    channels, size, _ = data.input_shape
    takes = inspect.signature(find(table.architecture).builder).parameters
    fitting = {"in_channels": channels, "in_chans": channels, "input_size": size}
    normalize = {} if table.normalize is None else {"normalize": table.normalize.model_dump(mode="json")}
    return {
        **{key: value for key, value in fitting.items() if key in takes},
        "num_classes": data.num_classes,
        **table.arguments,
        **normalize,
    }


def make_network(table: NetworkTable, data: Dataset, *, seed: int) -> nn.Module:
    """The network with random weights of `seed`; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(table.architecture, **network_arguments(table, data))


def known_hierarchy(text: str, data: Dataset) -> Hierarchy | None:
    """The hierarchy that `text` names, for the classes of the data: `data`, a known one, or a file."""
    if text == DATA:
        return data.hierarchy
    found = named(text) if text in NAMED else load_hierarchy(text)
    return found.for_classes(data.class_names)


def has(group: Group, name: str) -> bool:
    """Whether there is a variable of this name: stages leave out what would be empty."""
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


def training_plan(stage: TrainStage, hierarchy: Hierarchy | None, *, seed: int) -> TrainingConfig:
    """The plan of a train stage; `hierarchy` is that of its cluster penalty, None where it has none."""
    objective, cluster, select = stage.objective.value(), stage.objective.cluster, stage.select
    if cluster is not None and hierarchy is not None:
        penalty = ClusterPenalty(hierarchy=hierarchy, weight=cluster.weight, form=cluster.form)
        objective = replace(objective, cluster=penalty)
    return TrainingConfig(
        objective=objective,
        optimizer=stage.optimizer.value(),
        schedule=stage.schedule.value(),
        epochs=stage.epochs,
        batch_size=stage.batch_size,
        augmentation=None if stage.augmentation is None else stage.augmentation.value(),
        averaging=None if stage.averaging is None else stage.averaging.value(),
        selection=None if select.attack is None else select.attack.value(),
        select_on=select.on,
        evaluate_every=select.every,
        seed=seed,
    )

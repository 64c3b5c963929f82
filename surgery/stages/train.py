"""The stage kind `train`: a network, trained; its checkpoints and the history of its epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from surgery.errors import InputError
from surgery.hierarchy import Hierarchy
from surgery.stages.fields import Count, ModelReference, Seed
from surgery.stages.findings import Finding, Remark, remarks
from surgery.stages.network import NetworkTable, make_network, network_arguments
from surgery.stages.sources import SEED
from surgery.stages.stage import Context, Figures, Finished, Sizes, StageTable
from surgery.stages.training_tables import (
    AugmentationTable,
    AveragingTable,
    ObjectiveTable,
    OptimizerTable,
    ScheduleTable,
    SelectTable,
    StandardTable,
    TrainingEngineTable,
)
from surgery.store import Coordinate, Group, Variable
from surgery.train import Checkpoints, ClusterPenalty, EpochRecord, Progress, Trained, TrainingConfig, fit


class Notice(Remark):
    """Something unusual in a training, such as robust overfitting."""


Notice.section = remarks(key="notices", title="Noticed in training", place=50, tone="warning")


_IN_WORDS = {
    "standard": "standard training",
    "pgd": "adversarially trained",
    "trades": "trained with TRADES",
    "mart": "trained with MART",
}
"""What titles of figures call a network, by its objective."""


class TrainStage(StageTable):
    """Trains a network; writes its best and last checkpoints and the history of its epochs."""

    heading: ClassVar[str] = "Stage `train`"
    sections = (Notice.section,)
    files: ClassVar[tuple[str, ...]] = ("checkpoints/{}/best.safetensors", "checkpoints/{}/last.safetensors")
    temporary: ClassVar[tuple[str, ...]] = ("checkpoints/{}/resume.safetensors",)
    mark: ClassVar[str] = "checkpoints/{}/key.json"
    collective: ClassVar[bool] = True

    kind: Literal["train"] = Field(description="Train a network.")
    network: NetworkTable | None = Field(default=None, description="The network; that of [model] by default.")
    initial: ModelReference | None = Field(
        default=None, description="Train stage whose weights this one starts from; random weights by default."
    )
    objective: ObjectiveTable = Field(description="The training objective.")
    epochs: Count = Field(description="Passes over the training images.")
    batch_size: Count = Field(default=128, description="Images in a step.")
    optimizer: OptimizerTable = Field(default=OptimizerTable(), description="Stochastic gradient descent.")
    schedule: ScheduleTable = Field(description="The learning rate over time.")
    augmentation: AugmentationTable | None = Field(default=None, description="Random changes of the training images.")
    averaging: AveragingTable | None = Field(default=None, description="Average of the weights over the steps.")
    select: SelectTable = Field(default=SelectTable(), description="Selection of the best epoch.")
    engine: TrainingEngineTable = Field(default=TrainingEngineTable(), description="How training computes.")
    seed: Seed | None = SEED

    def in_words(self) -> str:
        words = _IN_WORDS[self.objective.kind]
        if self.objective.cluster is None:
            return words
        return f"{words} {'and' if ' with ' in words else 'with'} cluster penalty"

    def passes(self, sizes: Sizes) -> int:
        steps = 0 if isinstance(self.objective, StandardTable) else self.objective.attack.steps
        both = 2 if self.objective.kind in ("trades", "mart") else 1
        training = self.epochs * sizes.train * (steps + both)
        evaluations = -(-self.epochs // self.select.every) if self.select.every else 0
        each = 1 + (0 if self.select.attack is None else self.select.attack.steps_in_all())
        return training + evaluations * sizes.of(self.select.on, None) * each

    def run(self, context: Context) -> Group:
        """Train, or resume the training of a stage with the same key."""
        assert self.network is not None, "loading a recipe gives every train stage its network"
        # Under a launcher all processes come here: the same seed gives them the same weights.
        network = make_network(self.network, context.data, seed=context.seed)
        if self.initial is not None:
            network.load_state_dict(context.checkpoint("initial").state_dict())
        hierarchy, cluster = None, self.objective.cluster
        if cluster is not None:
            role = "objective.cluster.hierarchy"
            hierarchy = context.hierarchy(role, cluster.hierarchy)
            if hierarchy is None:
                raise InputError(f"{role} refers to the hierarchy of the data, but {context.data.title} has none")
        trained = fit(
            network,
            context.data,
            self.config(hierarchy, seed=context.seed),
            device=torch.device(context.device),
            engine=self.engine.value(),
            checkpoints=Checkpoints(
                folder=context.folder.checkpoints(context.name),
                architecture=self.network.architecture,
                arguments=network_arguments(self.network, context.data),
            ),
            # Only the leader has files; the others get their state from it.
            resume=context.leads and context.claim(),
            progress=lambda progress: _tell(context, progress),
        )
        return training_group(
            trained,
            data=context.data.title,
            parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
            provenance=context.provenance(),
            name=context.name,
        )

    def config(self, hierarchy: Hierarchy | None, *, seed: int) -> TrainingConfig:
        """The configuration of the training; `hierarchy`: of its cluster penalty, None if it has none."""
        objective, cluster = self.objective.value(), self.objective.cluster
        if cluster is not None and hierarchy is not None:
            penalty = ClusterPenalty(hierarchy=hierarchy, weight=cluster.weight, form=cluster.form)
            objective = replace(objective, cluster=penalty)
        return TrainingConfig(
            objective=objective,
            optimizer=self.optimizer.value(),
            schedule=self.schedule.value(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            augmentation=None if self.augmentation is None else self.augmentation.value(),
            averaging=None if self.averaging is None else self.averaging.value(),
            selection=None if self.select.attack is None else self.select.attack.value(),
            select_on=self.select.on,
            evaluate_every=self.select.every,
            seed=seed,
        )

    def draw(self, finished: Finished) -> Figures:
        from surgery.report import figures

        group = finished.group
        shown = {item.name: item.data for item in group.variables if item.name in figures.SERIES}
        best = int(group.attributes["best_epoch"])
        return {"history": lambda: figures.history(shown, best_epoch=best or None, title=finished.title)}

    def findings(self, finished: Finished) -> Iterable[Finding]:
        notices = finished.group.attributes.get("notices")
        return [Notice(text=f"{finished.stage.name}: {notices}")] if notices else []


SERIES: Mapping[str, tuple[str, str]] = {
    "loss": ("mean loss of the training batches", "1"),
    "train_natural": ("accuracy on clean training batches", "1"),
    "train_robust": ("accuracy on attacked training batches", "1"),
    "natural": ("accuracy on clean images of the split that the best epoch is selected on", "1"),
    "robust": ("accuracy on these images under the attack of the selection", "1"),
    "learning_rate": ("learning rate of the last step", "1"),
    "seconds": ("time of training, without evaluation", "s"),
}
"""Fields of an epoch's record with their long names and units."""


def training_group(
    trained: Trained, *, data: str, parameters: int, provenance: Mapping[str, str], name: str = "training"
) -> Group:
    """The history of a training, NaN for epochs without an evaluation. `parameters`: how many the network has."""
    history = trained.history
    parts = tuple(history[0].parts) if history else ()
    variables = [
        Variable(name=key, data=_series(history, key), dimensions=("epoch",), long_name=said, units=units)
        for key, (said, units) in SERIES.items()
    ]
    coordinates = [Coordinate(name="epoch", values=np.arange(1, len(history) + 1), long_name="epoch, counted from one")]
    if parts:  # a loss of a single term has none, and a store has no empty arrays
        means = np.array([[record.parts[part] for part in parts] for record in history])
        said = "mean of a part of the loss"
        variables.append(Variable(name="loss_part", data=means, dimensions=("epoch", "part"), long_name=said))
        coordinates.append(Coordinate(name="part", values=parts, long_name="part of the loss"))
    return Group(
        name=name,
        kind="train",
        coordinates=tuple(coordinates),
        variables=tuple(variables),
        attributes={
            "data": data,
            "best_epoch": trained.best_epoch,
            "selected_on": trained.selected_on or "nothing: the last epoch",
            "parameters": parameters,
            "notices": "; ".join(f"epoch {notice.epoch}: {notice.text}" for notice in trained.notices),
        },
        provenance={**provenance, "computed_with": "\n".join(trained.notes)},
    )


def _series(history: Sequence[EpochRecord], key: str) -> np.ndarray:
    values = [getattr(record, key) for record in history]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _tell(context: Context, progress: Progress) -> None:
    """Report the progress of a training: a batch, an epoch that ended, or a notice."""
    text = f"epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f}"
    if progress.evaluated is not None:
        text += f", evaluating {progress.evaluated:.0%}"
    if progress.record is not None:
        text = epoch_line(progress.record, progress.epochs)
    elif progress.notice is not None:
        text = f"warning: epoch {progress.notice.epoch}: {progress.notice.text}"
    context.tell(
        done=(progress.epoch - 1) * progress.batches + progress.batch,
        total=progress.epochs * progress.batches,
        seconds_left=progress.seconds_left,
        text=text,
        lasting=progress.record is not None or progress.notice is not None,
    )


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """One epoch on one line."""
    accuracies = {
        "train": record.train_natural,
        "train attacked": record.train_robust,
        "held out": record.natural,
        "held out attacked": record.robust,
    }
    said = [f"{name} {value:.1%}" for name, value in accuracies.items() if value is not None]
    return ", ".join([f"epoch {record.epoch} of {epochs}: loss {record.loss:.3f}", *said, f"{record.seconds:.0f} s"])

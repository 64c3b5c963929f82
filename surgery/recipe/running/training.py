"""The stage kind `train`."""

from __future__ import annotations

import torch

from surgery.recipe.running.context import Context, needed
from surgery.recipe.running.values import make_network, network_arguments, training_plan
from surgery.recipe.stages import TrainStage
from surgery.store import Group
from surgery.store.stages import training_group
from surgery.train import Checkpoints, EpochRecord, Progress, fit


def train(context: Context, stage: TrainStage) -> Group:
    """Train, or go on with the training of the same stage."""
    assert stage.network is not None, "loading gives every train stage its network"
    network = make_network(stage.network, context.data, seed=context.seed)
    if "initial" in context.stage.inputs:
        network.load_state_dict(context.checkpoint(context.input("initial")).state_dict())
    hierarchy = None
    if stage.objective.cluster is not None:
        role = "objective.cluster.hierarchy"
        hierarchy = needed(context.hierarchy(role, stage.objective.cluster.hierarchy), role, context.data)
    checkpoints = Checkpoints(
        folder=context.folder.checkpoints(context.stage.name),
        architecture=stage.network.architecture,
        arguments=network_arguments(stage.network, context.data),
    )
    trained = fit(
        network,
        context.data,
        training_plan(stage, hierarchy, seed=context.seed),
        device=torch.device(context.device),
        engine=stage.engine.value(),
        checkpoints=checkpoints,
        resume=context.leads and context.folder.claim(context.stage.name, context.record),
        progress=lambda progress: _tell(context, progress),
    )
    return training_group(
        trained,
        data=context.data.title,
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        provenance=context.provenance(),
        name=context.stage.name,
    )


def _tell(context: Context, progress: Progress) -> None:
    done = (progress.epoch - 1) * progress.batches + progress.batch
    text = f"epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f}"
    if progress.evaluated is not None:
        text += f", evaluating {progress.evaluated:.0%}"
    lasting = progress.record is not None or progress.notice is not None
    if progress.record is not None:
        text = epoch_line(progress.record, progress.epochs)
    elif progress.notice is not None:
        text = f"warning: epoch {progress.notice.epoch}: {progress.notice.text}"
    context.tell(
        done=done,
        total=progress.epochs * progress.batches,
        seconds_left=progress.seconds_left,
        text=text,
        lasting=lasting,
    )


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """One epoch in a line."""
    accuracies = {
        "train": record.train_natural,
        "train attacked": record.train_robust,
        "held out": record.natural,
        "held out attacked": record.robust,
    }
    said = [f"{name} {value:.1%}" for name, value in accuracies.items() if value is not None]
    return ", ".join([f"epoch {record.epoch} of {epochs}: loss {record.loss:.3f}", *said, f"{record.seconds:.0f} s"])

"""The accuracies by which epochs are compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import surgery.attack as attacks
from surgery.attack import EvaluationWarning, evaluate
from surgery.data import Split, images_as_float
from surgery.train.config import TrainingConfig
from surgery.train.engine import Engine
from surgery.train.processes import Processes


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Shares of images that are classified correctly, without and under the selection attack; None if not measured."""

    natural: float | None
    robust: float | None

    @property
    def score(self) -> float | None:
        """The accuracy that selects the best epoch."""
        return self.natural if self.robust is None else self.robust


UNKNOWN = Accuracies(natural=None, robust=None)
"""The accuracies of an epoch without an evaluation."""


def accuracies(
    network: nn.Module,
    split: Split,
    config: TrainingConfig,
    *,
    engine: Engine,
    dtype: torch.dtype,
    processes: Processes,
    progress: Callable[[int, int], None],
) -> Accuracies:
    """Evaluate `network`, which is in evaluation mode, under the selection attack; every process does its share.

    `dtype`: of the network. `progress` receives the number of finished steps of the attack, and of all its steps. The
    result does not depend on the number of processes: random starts of the attack belong to the images.
    """
    mine = split.subset(processes.share(torch.arange(len(split))))
    # Counts, not shares: the shares of the processes may differ in length, or be empty.
    correct = torch.zeros(2, dtype=torch.float64, device=split.labels.device)
    if len(mine) and config.selection is None:
        with torch.no_grad():
            for images, labels in zip(*(of.split(config.batch_size) for of in (mine.images, mine.labels)), strict=True):
                correct[0] += (network(images_as_float(images).to(dtype)).argmax(1) == labels).sum()
    elif len(mine) and config.selection is not None:
        search = attacks.Engine(precision=engine.precision, fold=engine.fold, channels_last=engine.channels_last)
        with warnings.catch_warnings():
            # The checks of an evaluation warn of what a half-trained network does; its final evaluation warns again.
            warnings.simplefilter("ignore", EvaluationWarning)
            found = evaluate(
                network, mine, {"selection": config.selection}, seed=config.seed, engine=search, progress=progress
            )
        correct += torch.stack([found[name].per_sample.sum() for name in ("natural", "selection")]).to(correct)
    natural, robust = (processes.sum(correct) / len(split)).tolist()
    return Accuracies(natural=natural, robust=None if config.selection is None else robust)

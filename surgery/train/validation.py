"""The accuracies by which epochs are compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import surgery.attack as attacks
from surgery.attack import EvaluationWarning, evaluate
from surgery.data import Split, images_as_float
from surgery.train.config import TrainingConfig
from surgery.train.engine import Engine
from surgery.train.processes import Processes


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Shares of images that are right: without an attack and under that of the plan; None where nobody looked."""

    natural: float | None
    robust: float | None

    @property
    def score(self) -> float | None:
        """What the best epoch has the highest value of."""
        return self.natural if self.robust is None else self.robust


UNKNOWN = Accuracies(natural=None, robust=None)
"""Of an epoch that is not evaluated."""


def accuracies(
    network: nn.Module,
    split: Split,
    plan: TrainingConfig,
    *,
    engine: Engine,
    dtype: torch.dtype,
    processes: Processes,
    progress: Callable[[int, int], None],
) -> Accuracies:
    """Evaluate `network`, which is in evaluation mode, by what `plan` selects on; every process does its share.

    `progress` hears, while there is an attack, of how many steps of how many are done. The processes' shares together
    give what one process gives: random starts of the attack belong to the images.
    """
    mine = split.subset(processes.share(torch.arange(len(split))))
    right = torch.zeros(2, dtype=torch.float64, device=split.labels.device)
    if len(mine) and plan.selection is None:
        right[0] = _right(network, mine, plan.batch_size, dtype)
    elif len(mine) and plan.selection is not None:
        right += _attacked(network, mine, plan, engine, progress).to(right)
    natural, robust = (processes.sum(right) / len(split)).tolist()
    return Accuracies(natural=natural, robust=None if plan.selection is None else robust)


@torch.no_grad()
def _right(network: nn.Module, split: Split, batch_size: int, dtype: torch.dtype) -> Tensor:
    """How many images are classified correctly."""
    pairs = zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
    counts = [(network(images_as_float(images).to(dtype)).argmax(1) == labels).sum() for images, labels in pairs]
    return torch.stack(counts).sum()


def _attacked(
    network: nn.Module, split: Split, plan: TrainingConfig, engine: Engine, progress: Callable[[int, int], None]
) -> Tensor:
    """How many images are classified correctly without and with the attack, `(2,)`."""
    assert plan.selection is not None, "the plan selects on robust accuracy"
    search = attacks.Engine(precision=engine.precision, fold=engine.fold, channels_last=engine.channels_last)
    with warnings.catch_warnings():
        # Checks of a network in the midst of training; its final evaluation warns.
        warnings.simplefilter("ignore", EvaluationWarning)
        found = evaluate(
            network, split, {"selection": plan.selection}, seed=plan.seed, engine=search, progress=progress
        )
    return torch.stack([found[name].per_sample.sum() for name in ("natural", "selection")])

"""Diagnostics of a training run: errors before its first batch, and notices from its history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from surgery.data import Dataset, images_as_float
from surgery.errors import InputError
from surgery.train.config import TrainingConfig
from surgery.train.records import EpochRecord, Notice

COLLAPSED = 0.2
"""Catastrophic overfitting: the robust accuracy of the evaluation is below this share of that on the training batches.
"""
DROP = 0.03
"""Robust overfitting: the least fall of robust accuracy below its best, and its least rise on the training batches."""
ERRORS = 2.0
"""The least fall of robust accuracy, in standard errors of a difference of two accuracies."""


def fit_to_data(config: TrainingConfig, data: Dataset, processes: int) -> TrainingConfig:
    """`config` with the classes of its hierarchy in the order of the data; raises InputError where they differ."""
    images = len(data.train)
    if config.batch_size > images:
        raise InputError(f"batches of {config.batch_size} images, but {data.name} has {images} to train on")
    if config.batch_size < processes:
        raise InputError(f"batches of {config.batch_size} images cannot be shared by {processes} processes")
    if config.evaluate_every and not len(data.splits[config.select_on]):
        raise InputError(
            f"{data.name} has no {config.select_on} images to select the best epoch on",
            hint="hold some images out (validation = 0.05); or evaluate_every = 0, which keeps the last epoch",
        )
    cluster = config.objective.cluster
    if cluster is None:
        return config
    return replace(config, objective=replace(config.objective, cluster=cluster.for_classes(data.class_names)))


def few_images(data: Dataset, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """At most eight training images, as the network takes them."""
    return images_as_float(data.train.images[:8].to(device)).to(dtype)


@torch.no_grad()
def check_network(network: nn.Module, data: Dataset, device: torch.device, dtype: torch.dtype) -> list[Notice]:
    """Run `network`, which is in evaluation mode, on a few images.

    Raises InputError where it does not accept them or does not return one logit for each class. Returns a notice where
    its outputs look like probabilities.
    """
    images = few_images(data, device, dtype)
    name = type(network).__name__
    try:
        outputs = network(images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{name} does not take images of shape {data.input_shape} ({data.name}): {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.dim() != 2:
        found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InputError(f"{name}: expected logits of shape (batch, {data.num_classes}), got {found}")
    if outputs.shape[1] != data.num_classes:
        raise InputError(
            f"{name} has {outputs.shape[1]} outputs, {data.name} has {data.num_classes} classes",
            hint=f"build the network with num_classes={data.num_classes}",
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"{name} has no parameter that can be trained", hint="requires_grad is False for all of them")
    sums = outputs.float().sum(1)
    probabilities = bool((outputs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    return [_PROBABILITIES] if probabilities else []


_PROBABILITIES = Notice(
    epoch=0,
    kind="probabilities",
    text="the network's outputs are probabilities; the losses take logits and apply a softmax of their own, which"
    " flattens gradients and attacks: leave the softmax out of the network",
)


def notices_after(config: TrainingConfig, history: Sequence[EpochRecord], *, images: int, classes: int) -> list[Notice]:
    """The notices of the last epoch of `history`, which was evaluated on `images` images of `classes` classes."""
    if not history or history[-1].robust is None or config.objective.attack is None:
        return []
    found = (_collapse(config, history[-1], classes), _falling(config, history, images))
    return [notice for notice in found if notice is not None]


def _collapse(config: TrainingConfig, last: EpochRecord, classes: int) -> Notice | None:
    """Catastrophic overfitting (Wong et al. 2020): right under the attack of training, wrong under a longer one."""
    attack, selection = config.objective.attack, config.selection
    if attack is None or selection is None or last.robust is None or last.train_robust is None:
        return None
    # A larger epsilon or another norm lowers the accuracy of any network; a network at chance level has learned nothing
    # that could collapse.
    comparable = selection.norm == attack.norm and selection.epsilon <= attack.epsilon * (1 + 1e-6)
    learned = last.train_robust > 2 / classes
    if not comparable or not learned or last.robust >= COLLAPSED * last.train_robust:
        return None
    return Notice(
        epoch=last.epoch,
        kind="catastrophic-overfitting",
        text=f"{last.train_robust:.1%} are right under the attack of training ({attack.steps} steps of"
        f" {attack.step_size:.4g}), {last.robust:.1%} under {selection.steps} steps: training defends against its own"
        " attack only. More or smaller steps, or a random start, help",
    )


def _falling(config: TrainingConfig, history: Sequence[EpochRecord], images: int) -> Notice | None:
    """Robust overfitting (Rice et al. 2020): robust accuracy falls while that on the training batches rises.

    Without the rise, the accuracy varies up and down; a fall then matters only after the last epoch.
    """
    last = history[-1]
    seen = [record for record in history if record.robust is not None]
    best = max(seen, key=lambda record: record.robust or 0.0)
    if last.robust is None or best.robust is None:
        return None
    drop = best.robust - last.robust
    error = math.sqrt(2 * best.robust * (1 - best.robust) / images)
    if drop < max(DROP, ERRORS * error):
        return None
    fell = f"robust accuracy is {last.robust:.1%}, after {best.robust:.1%} in epoch {best.epoch}"
    # Where the accuracy on training batches was not measured, the fall alone counts.
    before, after = best.train_robust, last.train_robust
    if before is None or after is None or after - before >= DROP:
        return Notice(
            epoch=last.epoch,
            kind="robust-overfitting",
            text=f"{fell}: robust overfitting. The best epoch is kept; fewer epochs, weight averaging or adversarial"
            " weight perturbation help",
        )
    if last.epoch < config.epochs:
        return None
    return Notice(
        epoch=last.epoch,
        kind="unsteady",
        text=f"{fell}, and on the training batches it has not risen since: training ends unsteadily. The best epoch is"
        " kept; a learning rate that falls lower or weight averaging help",
    )

"""What can be wrong before anything is trained: every message names it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from surgery.data import Dataset, images_as_float
from surgery.errors import InputError
from surgery.train.config import TrainingConfig
from surgery.train.records import Notice


def fitted(plan: TrainingConfig, data: Dataset, processes: int) -> TrainingConfig:
    """`plan` with the classes of its hierarchy in the order of the data; raises InputError where they do not fit."""
    images = len(data.train)
    if plan.batch_size > images:
        raise InputError(f"batches of {plan.batch_size} images, but {data.name} has {images} to train on")
    if plan.batch_size < processes:
        raise InputError(f"batches of {plan.batch_size} images cannot be shared by {processes} processes")
    if plan.evaluate_every and not len(data.splits[plan.select_on]):
        raise InputError(
            f"{data.name} has no {plan.select_on} images to select the best epoch on",
            hint="hold some out (validation = 0.05), or evaluate_every = 0 keeps the last epoch",
        )
    cluster = plan.objective.cluster
    if cluster is None:
        return plan
    return replace(plan, objective=replace(plan.objective, cluster=cluster.for_classes(data.class_names)))


@torch.no_grad()
def check_network(network: nn.Module, data: Dataset, device: torch.device, dtype: torch.dtype) -> list[Notice]:
    """Try `network`, which is in evaluation mode, on a few images.

    Raises InputError where it does not take them or does not give one logit for each class. Returns a notice where its
    outputs look like probabilities.
    """
    images = images_as_float(data.train.images[:8].to(device)).to(dtype)
    name = type(network).__name__
    try:
        outputs = network(images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{name} does not take images of shape {data.input_shape} ({data.name}): {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.dim() != 2:
        found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InputError(f"{name} returns {found}; logits of shape (batch, {data.num_classes}) are expected")
    if outputs.shape[1] != data.num_classes:
        raise InputError(
            f"{name} has {outputs.shape[1]} outputs, {data.name} has {data.num_classes} classes",
            hint=f"build it with num_classes={data.num_classes}",
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"{name} has no parameter that can be trained", hint="requires_grad is False for all of them")
    return [_PROBABILITIES] if _look_like_probabilities(outputs) else []


def _look_like_probabilities(outputs: torch.Tensor) -> bool:
    sums = outputs.float().sum(1)
    return bool((outputs >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


_PROBABILITIES = Notice(
    epoch=0,
    kind="probabilities",
    text="the network's outputs are probabilities; the losses take logits and apply a softmax of their own, which"
    " flattens gradients and attacks: leave the softmax out of the network",
)

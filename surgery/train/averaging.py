"""Averages of the weights along a training run; the average is evaluated and kept in the place of the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from surgery.errors import InputError


class Averaging(Protocol):
    """When the average takes in the weights of the network, and how."""

    @property
    def start(self) -> int:
        """The first epoch, counted from one, whose weights are averaged."""
        ...

    @property
    def batches(self) -> int:
        """Training batches from which the statistics of batch norm are recomputed; 0 where they are averaged."""
        ...

    def takes(self, *, ends_epoch: bool) -> bool:
        """Whether the weights after a step are taken in; `ends_epoch` tells the last step of an epoch."""
        ...

    def update(self, average: list[Tensor], weights: list[Tensor], taken: int) -> None:
        """Move `average`, made of `taken` > 0 earlier weights, towards `weights` in place."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExponentialAverage:
    """After every step the average moves towards the weights by 1 - `decay`, the statistics of batch norm included.

    Raises InputError for numbers outside their range.
    """

    decay: float
    start: int = 1
    batches: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise InputError(f"expected a decay of the average between 0 and 1, got {self.decay!r}")
        _check_counts(self.start, self.batches)

    def takes(self, *, ends_epoch: bool) -> bool:
        return True

    def update(self, average: list[Tensor], weights: list[Tensor], taken: int) -> None:
        get_ema_multi_avg_fn(self.decay)(average, weights, taken)


@dataclass(frozen=True, kw_only=True)
class StochasticAverage:
    """The plain mean of the weights at the end of every epoch from `start` on (Izmailov et al. 2018).

    No forward pass of training used the averaged weights, so before an evaluation the statistics of batch norm are
    recomputed from `batches` training batches, attacked as in training.

    Raises InputError for numbers outside their range.
    """

    start: int
    batches: int

    def __post_init__(self) -> None:
        _check_counts(self.start, self.batches)

    def takes(self, *, ends_epoch: bool) -> bool:
        return ends_epoch

    def update(self, average: list[Tensor], weights: list[Tensor], taken: int) -> None:
        get_swa_multi_avg_fn()(average, weights, taken)


@torch.no_grad()
def absorb(average: nn.Module, network: nn.Module, averaging: Averaging, *, taken: int) -> None:
    """Take the weights and buffers of `network` into `average`, which has taken in `taken` earlier ones.

    Whole numbers (the count of batches that batch norm keeps) are copied.
    """
    # torch's AveragedModel does not fit: it averages and truncates whole numbers, reads its counter from the device at
    # every step, which makes the host wait, and its 1/(n+1) is rounded to float32.
    pairs = list(zip(_memory(average), _memory(network), strict=True))
    moving = [(into, source) for into, source in pairs if taken and into.is_floating_point()]
    copied = [(into, source) for into, source in pairs if not (taken and into.is_floating_point())]
    if moving:
        averaging.update([into for into, _ in moving], [source for _, source in moving], taken)
    for into, source in copied:
        into.copy_(source)


def _memory(network: nn.Module) -> list[Tensor]:
    return [*(parameter.detach() for parameter in network.parameters()), *network.buffers()]


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor], *, autocast: torch.autocast) -> None:
    """Replace the statistics of batch norm by their means over forward passes of `batches`, with equal shares.

    `autocast`: the precision of the passes. The network ends in evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    # Only batch norm is in training mode. torch's update_bn puts the whole network into it, and dropout would then
    # increase the variances behind it, which the evaluated network does not have.
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # for torch: a cumulative mean
        norm.train()
    try:
        with autocast:
            for images in batches:
                network(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def _check_counts(start: int, batches: int) -> None:
    if start < 1:
        raise InputError(f"expected the epoch in which averaging starts, counted from 1, got epoch {start}")
    if batches < 0:
        raise InputError(f"expected 0 or more batches for the statistics of batch norm, got {batches} batches")

"""Averages of the weights along training, which are what is evaluated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.errors import InputError
from surgery.train.foreach import copy_all, move_all


class Averaging(Protocol):
    """When the average takes the weights in, and with which share."""

    @property
    def start(self) -> int:
        """The first epoch, counted from one, whose weights are averaged."""
        ...

    @property
    def batches(self) -> int:
        """Training batches from which the statistics of batch norm are computed anew; 0 where they are averaged."""
        ...

    def share(self, taken: int, *, ends_epoch: bool) -> float | None:
        """The share of the present weights in the new average, after `taken` earlier ones; None to leave it."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExponentialAverage:
    """After every step the average moves towards the weights by 1 - `decay`, the statistics of batch norm included."""

    decay: float
    start: int = 1
    batches: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise InputError(f"the decay of an average is {self.decay!r}; it lies between 0 and 1")
        _check_counts(self.start, self.batches)

    def share(self, taken: int, *, ends_epoch: bool) -> float | None:
        return 1.0 if taken == 0 else 1.0 - self.decay


@dataclass(frozen=True, kw_only=True)
class StochasticAverage:
    """The plain mean of the weights at the end of every epoch from `start` on (Izmailov et al. 2018).

    The statistics of batch norm belong to weights that no epoch had: before an evaluation they are computed anew from
    `batches` training batches, attacked as in training.
    """

    start: int
    batches: int

    def __post_init__(self) -> None:
        _check_counts(self.start, self.batches)

    def share(self, taken: int, *, ends_epoch: bool) -> float | None:
        return 1.0 / (taken + 1) if ends_epoch else None


def absorb(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the weights and buffers of `average` towards those of `network`."""
    into, sources = _memory(average), _memory(network)
    if share == 1.0:
        copy_all(into, sources)
    else:
        move_all(into, sources, share)


def _memory(network: nn.Module) -> list[Tensor]:
    return [*(parameter.detach() for parameter in network.parameters()), *network.buffers()]


@contextmanager
def counting_statistics(network: nn.Module) -> Iterator[None]:
    """Forget the statistics of batch norm; those of forwards within the block are averaged with equal shares.

    Only batch norm is in training mode meanwhile. The network ends in evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def _check_counts(start: int, batches: int) -> None:
    if start < 1:
        raise InputError(f"averaging starts in epoch {start}; epochs are counted from 1")
    if batches < 0:
        raise InputError(f"{batches} batches for the statistics of batch norm; a number from 0 on is expected")

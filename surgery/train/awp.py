"""Adversarial weight perturbation (Wu, Xia & Wang 2020): the loss is taken where nearby weights make it higher."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.errors import InputError

_TINY = 1e-20
"""Replaces the norm of a gradient that is zero."""


@dataclass(frozen=True, kw_only=True)
class WeightPerturbation:
    """Adversarial weight perturbation of the whole loss.

    For every weight w with more than one dimension v = gamma |w| g / |g|, where g is the gradient of the loss; the
    gradient of a step is taken at w + v; the step itself, with its weight decay, starts at w. (The published code takes
    the step at w + v and then subtracts v, so that its weight decay acts on w + v.) `gamma` is the relative size (the
    authors take 0.01, and 0.005 with TRADES). `start`: the first epoch, counted from one, with the perturbation.

    Raises InputError for numbers outside their range.
    """

    gamma: float
    start: int = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.gamma) or self.gamma <= 0:
            raise InputError(f"expected a gamma of the weight perturbation above 0, got {self.gamma!r}")
        if self.start < 1:
            raise InputError(
                f"expected the epoch in which the weight perturbation starts, counted from 1, got epoch {self.start}"
            )


def perturbable(network: nn.Module) -> list[nn.Parameter]:
    """The weights that are perturbed: those with more than one dimension, so neither biases nor batch norm."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.dim() > 1]


@contextmanager
def perturbed(weights: Sequence[Tensor], gradients: Sequence[Tensor], gamma: float) -> Iterator[None]:
    """Hold the weights at w + gamma |w| g / |g| inside the block; afterwards they are exactly what they were."""
    # Copied, for w + v - v is not w in floating point.
    saved = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(gradient * (gamma * weight.norm() / gradient.norm().clamp_min(_TINY)))
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, saved, strict=True):
                weight.copy_(old)

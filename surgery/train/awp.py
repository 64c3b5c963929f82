"""Adversarial weight perturbation (Wu, Xia & Wang 2020): weights moved to where the loss is higher, and moved back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_TINY = 1e-20
"""In the place of the norm of a gradient that is zero."""


def perturbable(network: nn.Module) -> list[nn.Parameter]:
    """The weights that are perturbed: those with more than one dimension, which leaves out biases and batch norm."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.dim() > 1]


@contextmanager
def perturbed(weights: Sequence[Tensor], gradients: Sequence[Tensor], gamma: float) -> Iterator[None]:
    """Hold the weights at w + gamma |w| g / |g| while the block runs; afterwards they are exactly what they were."""
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


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Put the buffers (statistics of batch norm) back to what they are now when the block ends."""
    saved = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(network.buffers(), saved, strict=True):
                buffer.copy_(old)

"""The one projected-gradient loop, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from surgery.attack.attack import Attack
from surgery.attack.norms import NORMS

Objective = Callable[[Tensor], Tensor]
"""Iterates `(batch, channels, height, width)` to losses `(batch,)`, which the search increases."""

Probe = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Iterates and the rows `(batch,)` of the images that they belong to, to losses `(batch,)` and, where images may leave,
which of them do `(batch,)`.
"""


def search(objective: Objective, images: Tensor, attack: Attack, *, start: Tensor) -> Tensor:
    """Increase `objective` within the threat model of `attack`, from `start`, for all its steps; the last iterate.

    `images` and `start` are `(batch, channels, height, width)` in [0, 1]. Only gradients with respect to the image are
    computed; `requires_grad` of parameters stays as it is. The result is detached, in [0, 1] and within epsilon.
    """
    return pursue(lambda iterate, rows: (objective(iterate), None), images, attack, start=start)


def pursue(probe: Probe, images: Tensor, attack: Attack, *, start: Tensor) -> Tensor:
    """As `search`, where images may leave on the way; such an image stays as it was when it left."""
    norm = NORMS[attack.norm]
    found = start.detach().clone()
    rows = torch.arange(len(images), device=images.device)
    origin, iterate = images.detach(), start.detach()
    for step in range(attack.steps):
        leaf = iterate.detach().requires_grad_()
        with torch.enable_grad():
            losses, leaving = probe(leaf, rows)
            total = losses.sum()
        stay = None if leaving is None or not bool(leaving.any()) else ~leaving
        if stay is not None:
            found[rows] = iterate
            if not bool(stay.any()):
                return found
        [gradient] = torch.autograd.grad(total, leaf)
        if stay is not None:
            rows, origin, iterate, gradient = rows[stay], origin[stay], iterate[stay], gradient[stay]
        with torch.no_grad():
            moved = iterate + attack.step_at(step) * norm.direction(gradient, iterate, attack.sparsity)
            iterate = norm.project(moved, origin, attack.epsilon)
    found[rows] = iterate
    return found

"""The losses that an attack increases: one number for each image, from logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["cross-entropy", "margin", "dlr"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss `(logits (batch, K), labels (batch,)) -> (batch,)`, and its targeted form, which takes targets as well.

    `fewest_classes`, `fewest_classes_targeted`: the smallest K for which they are defined.
    """

    untargeted: Callable[[Tensor, Tensor], Tensor]
    targeted: Callable[[Tensor, Tensor, Tensor], Tensor]
    fewest_classes: int
    fewest_classes_targeted: int


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


def _cross_entropy_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return -functional.cross_entropy(logits, targets, reduction="none")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y: the loss of Carlini & Wagner 2017 without its threshold (CW-inf, paper section 7)."""
    return _best_other(logits, labels) - _entry(logits, labels)


def _margin_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return _entry(logits, targets) - _best_other(logits, targets)


def _dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin divided by z_(1) - z_(3), so that scaling the logits has no effect (Croce & Hein 2020, eq. 6)."""
    # A softmax that saturates in float32 has no gradient left; this ratio is not affected by the scale of the logits.
    ordered = logits.topk(3, dim=1).values
    return _margin(logits, labels) / (ordered[:, 0] - ordered[:, 2]).clamp_min(_SMALL)


def _dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2) (Croce & Hein 2020, eq. 7)."""
    ordered = logits.topk(4, dim=1).values
    scale = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2.0
    return (_entry(logits, targets) - _entry(logits, labels)) / scale.clamp_min(_SMALL)


def _entry(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]).squeeze(1)


def _best_other(logits: Tensor, labels: Tensor) -> Tensor:
    # The smallest finite number, not -inf: the difference of two infinities would be NaN.
    others = logits.scatter(1, labels[:, None], torch.finfo(logits.dtype).min)
    return others.amax(1)


_SMALL = 1e-12
"""Keeps the ratio of DLR defined where the largest logits are equal."""

LOSSES: Mapping[str, Loss] = {
    "cross-entropy": Loss(
        untargeted=_cross_entropy,
        targeted=_cross_entropy_targeted,
        fewest_classes=2,
        fewest_classes_targeted=2,
    ),
    "margin": Loss(
        untargeted=_margin,
        targeted=_margin_targeted,
        fewest_classes=2,
        fewest_classes_targeted=2,
    ),
    "dlr": Loss(
        untargeted=_dlr,
        targeted=_dlr_targeted,
        fewest_classes=3,
        fewest_classes_targeted=4,
    ),
}
"""Losses by name."""

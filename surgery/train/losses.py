"""The losses of training objectives: from logits `(batch, K)` to one number an image `(batch,)`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def precise(logits: Tensor) -> Tensor:
    """The logits in at least float32, which losses need: autocast leaves them in bfloat16."""
    return logits if logits.dtype == torch.float64 else logits.float()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p_y(x)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def divergence(adversarial: Tensor, clean: Tensor) -> Tensor:
    """KL(p(x) || p(x')) = sum_k p_k(x) (log p_k(x) - log p_k(x')) from the logits at x' and at x."""
    towards, target = functional.log_softmax(adversarial, dim=1), functional.log_softmax(clean, dim=1)
    return functional.kl_div(towards, target, reduction="none", log_target=True).sum(1)


def boosted_cross_entropy(adversarial: Tensor, labels: Tensor) -> Tensor:
    """-log p_y(x') - log(1 - max_{k != y} p_k(x')) (Wang et al. 2020, eq. 8)."""
    is_label = functional.one_hot(labels, adversarial.shape[1]).bool()
    rival = adversarial.masked_fill(is_label, -torch.inf).argmax(1, keepdim=True)
    # 1 - p_k is the sum of the other probabilities, whose logarithm stays finite where 1 - p_k rounds to zero.
    others = adversarial.scatter(1, rival, -torch.inf).logsumexp(1)
    return cross_entropy(adversarial, labels) + adversarial.logsumexp(1) - others


def misclassification_aware(adversarial: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
    """KL(p(x) || p(x')) (1 - p_y(x)): images that are wrong without an attack count more (Wang et al. 2020, eq. 11)."""
    wrong = 1.0 - torch.exp(-cross_entropy(clean, labels))
    return divergence(adversarial, clean) * wrong

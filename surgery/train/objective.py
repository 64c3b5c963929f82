"""Objectives of training as values, and their algebra in one table.

    standard   CE(F(x), y)
    pgd        CE(F(x'), y),                                       x' increases CE(F(x'), y)      Madry et al. 2018
    trades     CE(F(x), y) + beta KL(p(x) || p(x')),               x' increases KL(p(x) || p(x')) Zhang et al. 2019
    mart       BCE(p(x'), y) + beta KL(p(x) || p(x')) (1 - p_y(x)), x' increases CE(F(x'), y)     Wang et al. 2020

F are logits, p their softmax; x' is within the attack's epsilon of x and is searched in evaluation mode. All searches
start where the attack says, by default at a uniform point of the ball; the published codes of TRADES and MART start at
the image plus normal noise of standard deviation 0.001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from surgery.attack import LOSSES, Attack
from surgery.errors import InputError, suggest
from surgery.train.awp import WeightPerturbation
from surgery.train.penalty import ClusterPenalty

Kind = Literal["standard", "pgd", "trades", "mart"]
Terms = dict[str, Tensor]
"""The terms of a loss by name, one number for each image, `(batch,)`."""


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
    """KL(p(x) || p(x')) (1 - p_y(x)): images misclassified without an attack count more (Wang et al. 2020, eq. 11)."""
    wrong = 1.0 - torch.exp(-cross_entropy(clean, labels))
    return divergence(adversarial, clean) * wrong


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The outputs `(batch, K)` for clean and for adversarial images; None where the objective does not read them."""

    clean: Tensor | None
    adversarial: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Method:
    """The algebra of one kind of objective.

    `clean`, `adversarial`: whether the loss reads the logits of these images. `weighs`: whether there is a beta.
    `terms`: the function from logits, labels and beta to the terms of the loss, which `names` lists. `inner`: the
    function that the search increases, from the logits of its iterate, the logits of the images (None unless
    `inner_reads_clean`), the labels and the attack to `(batch,)`.
    """

    clean: bool
    adversarial: bool
    weighs: bool
    names: tuple[str, ...]
    terms: Callable[[Logits, Tensor, float], Terms]
    inner: Callable[[Tensor, Tensor | None, Tensor, Attack], Tensor]
    inner_reads_clean: bool


def _standard(logits: Logits, labels: Tensor, beta: float) -> Terms:
    assert logits.clean is not None, "standard training reads clean logits"
    return {"cross-entropy": cross_entropy(logits.clean, labels)}


def _pgd(logits: Logits, labels: Tensor, beta: float) -> Terms:
    assert logits.adversarial is not None, "adversarial training reads adversarial logits"
    return {"cross-entropy": cross_entropy(logits.adversarial, labels)}


def _trades(logits: Logits, labels: Tensor, beta: float) -> Terms:
    assert logits.clean is not None, "TRADES reads both logits"
    assert logits.adversarial is not None, "TRADES reads both logits"
    return {
        "cross-entropy": cross_entropy(logits.clean, labels),
        "consistency": beta * divergence(logits.adversarial, logits.clean),
    }


def _mart(logits: Logits, labels: Tensor, beta: float) -> Terms:
    assert logits.clean is not None, "MART reads both logits"
    assert logits.adversarial is not None, "MART reads both logits"
    return {
        "boosted-cross-entropy": boosted_cross_entropy(logits.adversarial, labels),
        "consistency": beta * misclassification_aware(logits.adversarial, logits.clean, labels),
    }


def _towards_error(iterate: Tensor, clean: Tensor | None, labels: Tensor, attack: Attack) -> Tensor:
    return LOSSES[attack.loss].untargeted(iterate, labels)


def _away_from_clean(iterate: Tensor, clean: Tensor | None, labels: Tensor, attack: Attack) -> Tensor:
    assert clean is not None, "the search of TRADES reads the clean logits"
    return divergence(iterate, clean)


METHODS: Mapping[str, Method] = {
    "standard": Method(
        clean=True,
        adversarial=False,
        weighs=False,
        names=("cross-entropy",),
        terms=_standard,
        inner=_towards_error,
        inner_reads_clean=False,
    ),
    "pgd": Method(
        clean=False,
        adversarial=True,
        weighs=False,
        names=("cross-entropy",),
        terms=_pgd,
        inner=_towards_error,
        inner_reads_clean=False,
    ),
    "trades": Method(
        clean=True,
        adversarial=True,
        weighs=True,
        names=("cross-entropy", "consistency"),
        terms=_trades,
        inner=_away_from_clean,
        inner_reads_clean=True,
    ),
    "mart": Method(
        clean=True,
        adversarial=True,
        weighs=True,
        names=("boosted-cross-entropy", "consistency"),
        terms=_mart,
        inner=_towards_error,
        inner_reads_clean=False,
    ),
}
"""The kinds of objectives by name."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What training minimizes: a kind, its attack and weight, and what is added to it.

    `attack`: for every kind but `standard`; every image takes all its steps. The loss of the attack is what the search
    of `pgd` and `mart` increases; `trades` has its own. `beta`: the weight of the second term, for `trades` and `mart`.
    `perturbation`: adversarial weight perturbation, of the whole loss. `cluster`: the cluster penalty, on the logits of
    the adversarial images of the same forward pass, or of the clean ones for `standard`.

    Raises InputError where these do not fit together.
    """

    kind: Kind
    attack: Attack | None = None
    beta: float | None = None
    perturbation: WeightPerturbation | None = None
    cluster: ClusterPenalty | None = None

    def __post_init__(self) -> None:
        if self.kind not in METHODS:
            hint = suggest(str(self.kind), METHODS) or f"known objectives are {', '.join(METHODS)}"
            raise InputError(f"unknown objective {self.kind!r}", hint=hint)
        if not self.method.adversarial and self.attack is not None:
            raise InputError(f"{self.kind} training has no attack", hint="kind = 'pgd' trains on attacked images")
        if self.method.adversarial:
            if self.attack is None:
                raise InputError(f"the objective {self.kind!r} needs an attack", hint="surgery.attack.pgd makes one")
            if self.attack.targeted or self.attack.restarts > 1:
                raise InputError("training takes an untargeted attack without restarts")
            # KL(p(x) || p(x')) has its minimum, zero, at x' = x.
            if self.method.inner_reads_clean and self.attack.start == "zero":
                raise InputError(
                    f"the loss that the search of {self.kind} increases has no gradient at the image itself",
                    hint="start = 'uniform'",
                )
        if self.method.weighs and self.beta is None:
            raise InputError(f"the objective {self.kind!r} needs beta, the weight of its second term")
        if not self.method.weighs and self.beta is not None:
            raise InputError(f"the objective {self.kind!r} has no beta", hint="trades and mart have one")
        if self.beta is not None and (not math.isfinite(self.beta) or self.beta < 0):
            raise InputError(f"expected a beta of 0 or more, got {self.beta!r}")

    @property
    def method(self) -> Method:
        return METHODS[self.kind]

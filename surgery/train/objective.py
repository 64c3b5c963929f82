"""Objectives of training as values, and their algebra in one table.

    standard   CE(F(x), y)
    pgd        CE(F(x'), y),                                       x' increases CE(F(x'), y)      Madry et al. 2018
    trades     CE(F(x), y) + beta KL(p(x) || p(x')),               x' increases KL(p(x) || p(x')) Zhang et al. 2019
    mart       BCE(p(x'), y) + beta KL(p(x) || p(x')) (1 - p_y(x)), x' increases CE(F(x'), y)     Wang et al. 2020

F are logits, p their softmax; x' stays within the attack's epsilon of x and is found in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from surgery.attack import LOSSES, Attack
from surgery.errors import InputError, suggest
from surgery.train.losses import boosted_cross_entropy, cross_entropy, divergence, misclassification_aware
from surgery.train.penalty import ClusterPenalty

Kind = Literal["standard", "pgd", "trades", "mart"]
Terms = dict[str, Tensor]
"""What a loss is made of: for each term a number an image, `(batch,)`."""


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The outputs `(batch, K)` for clean and for adversarial images, as far as an objective asks for them."""

    clean: Tensor | None
    adversarial: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Method:
    """What tells one kind of objective from another.

    `clean`, `adversarial`: whether the loss reads the logits of these images. `weighs`: whether there is a beta.
    `terms`: logits, labels and beta to the terms of the loss, called `names`. `inner`: what the search increases
    `(batch,)`, from the logits of its iterate, those of the images (None unless `inner_reads_clean`), the labels and
    the attack.
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
"""Objectives by name."""


@dataclass(frozen=True, kw_only=True)
class WeightPerturbation:
    """Adversarial weight perturbation (Wu et al. 2020): the loss is taken where the weights are worst nearby.

    For every weight w with more than one dimension v = gamma |w| g / |g|, where g is the gradient of the loss; the step
    is taken with the gradient at w + v, from w. `gamma` is the relative size (the authors take 0.01, and 0.005 with
    TRADES). `start`: the first epoch, counted from one, with the perturbation.

    Raises InputError where a number makes no sense.
    """

    gamma: float
    start: int = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.gamma) or self.gamma <= 0:
            raise InputError(f"gamma of the weight perturbation is {self.gamma!r}; a number above 0 is expected")
        if self.start < 1:
            raise InputError(f"the weight perturbation starts in epoch {self.start}; epochs are counted from 1")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What training minimises: a kind, its attack and weight, and what is added to it.

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
            hint = suggest(str(self.kind), METHODS) or f"known are {', '.join(METHODS)}"
            raise InputError(f"{self.kind!r} is no objective", hint=hint)
        self._check_attack()
        self._check_beta()

    @property
    def method(self) -> Method:
        return METHODS[self.kind]

    def _check_attack(self) -> None:
        if not self.method.adversarial:
            if self.attack is not None:
                raise InputError(f"{self.kind} training has no attack", hint="kind = 'pgd' trains on attacked images")
            return
        if self.attack is None:
            raise InputError(f"the objective {self.kind!r} needs an attack", hint="surgery.attack.pgd makes one")
        if self.attack.targeted or self.attack.restarts > 1:
            raise InputError("training takes an untargeted attack without restarts")
        if self.method.inner_reads_clean and self.attack.start == "zero":
            raise InputError(
                f"the loss that the search of {self.kind} increases has no gradient at the image itself",
                hint="start = 'uniform'",
            )

    def _check_beta(self) -> None:
        if self.method.weighs and self.beta is None:
            raise InputError(f"the objective {self.kind!r} needs beta, the weight of its second term")
        if not self.method.weighs and self.beta is not None:
            raise InputError(f"the objective {self.kind!r} has no beta", hint="trades and mart have one")
        if self.beta is not None and (not math.isfinite(self.beta) or self.beta < 0):
            raise InputError(f"beta is {self.beta!r}; a number from 0 on is expected")

"""The `Attack`: a threat model and a way to search it, as a value (section 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from surgery.attack.losses import LOSSES, LossName
from surgery.attack.norms import NORMS, NormName
from surgery.attack.parsing import pixels
from surgery.errors import InputError, suggest

Start = Literal["uniform", "zero"]
StepRule = Literal["constant", "linear-decay", "cosine"]

STARTS: tuple[str, ...] = ("uniform", "zero")
"""Where the search starts: uniformly in the ball of epsilon, or at the image."""

STEP_RULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear-decay": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2.0,
}
"""The factor on the step size, by the share of the steps that are done, in [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A projected-gradient attack.

    `norm` and `epsilon`: the threat model, pixels in [0, 1]. `steps` of `step_size`, scaled by `step_rule`, increase
    `loss`; the targeted form moves towards a target class instead of away from the label. `start` and `restarts`: where
    the search starts and how often. `sparsity`: for L1, the share of the pixels that one step moves; None otherwise.
    `early_stop`: whether an evaluation lets images go once they are fooled; without it all steps are taken and the last
    iterate counts.

    Raises InputError for values that make no attack.
    """

    norm: NormName
    epsilon: float
    steps: int
    step_size: float
    loss: LossName = "cross-entropy"
    step_rule: StepRule = "constant"
    start: Start = "uniform"
    restarts: int = 1
    sparsity: float | None = None
    targeted: bool = False
    early_stop: bool = True

    def __post_init__(self) -> None:
        _check_name("norm", self.norm, NORMS)
        _check_name("loss", self.loss, LOSSES)
        _check_name("step_rule", self.step_rule, STEP_RULES)
        _check_name("start", self.start, STARTS)
        _check_count("steps", self.steps)
        _check_count("restarts", self.restarts)
        _check_flag("targeted", self.targeted)
        _check_flag("early_stop", self.early_stop)
        for what, value in (("epsilon", self.epsilon), ("step_size", self.step_size)):
            _check_size(what, value, self.norm)
        _check_sparsity(self.sparsity, self.norm)
        if self.restarts > 1 and self.start == "zero":
            raise InputError(
                f"{self.restarts} restarts from the image itself are all the same",
                hint='restarts go with start = "uniform"',
            )

    def step_at(self, step: int) -> float:
        """The size of step number `step`, counted from zero."""
        return self.step_size * STEP_RULES[self.step_rule](step / self.steps)


def pgd(
    *,
    epsilon: str | float,
    steps: int,
    step_size: str | float,
    norm: NormName = "Linf",
    loss: LossName = "cross-entropy",
    step_rule: StepRule = "constant",
    start: Start = "uniform",
    restarts: int = 1,
    sparsity: float | None = None,
    targeted: bool = False,
    early_stop: bool = True,
) -> Attack:
    """Projected gradient descent (Madry et al. 2018): `pgd(epsilon="8/255", steps=20, step_size=0.003)`."""
    return Attack(
        norm=norm,
        epsilon=pixels(epsilon),
        steps=steps,
        step_size=pixels(step_size, what="step_size"),
        loss=loss,
        step_rule=step_rule,
        start=start,
        restarts=restarts,
        sparsity=sparsity,
        targeted=targeted,
        early_stop=early_stop,
    )


def fgsm(
    *,
    epsilon: str | float,
    norm: NormName = "Linf",
    loss: LossName = "cross-entropy",
    sparsity: float | None = None,
    targeted: bool = False,
    early_stop: bool = True,
) -> Attack:
    """The fast gradient method (Goodfellow et al. 2015): one step of the size of epsilon from the image."""
    return pgd(
        norm=norm,
        epsilon=epsilon,
        steps=1,
        step_size=epsilon,
        loss=loss,
        start="zero",
        sparsity=sparsity,
        targeted=targeted,
        early_stop=early_stop,
    )


def cw(
    *,
    epsilon: str | float,
    steps: int,
    step_size: str | float,
    norm: NormName = "Linf",
    step_rule: StepRule = "constant",
    start: Start = "uniform",
    restarts: int = 1,
    sparsity: float | None = None,
    targeted: bool = False,
    early_stop: bool = True,
) -> Attack:
    """CW-inf (section 7): projected gradient descent on the margin; the paper's line of work takes 30 steps."""
    return pgd(
        norm=norm,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        loss="margin",
        step_rule=step_rule,
        start=start,
        restarts=restarts,
        sparsity=sparsity,
        targeted=targeted,
        early_stop=early_stop,
    )


def _check_name(what: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        hint = suggest(str(value), names) or f"known are {', '.join(names)}"
        raise InputError(f"{what} is {value!r}, which no attack knows", hint=hint)


def _check_count(what: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what} is {value!r}; a whole number of at least 1 is expected")


def _check_flag(what: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{what} is {value!r}; true or false is expected")


def _check_size(what: str, value: float, norm: str) -> None:
    number = pixels(value, what=what) if not isinstance(value, str) else _refuse_text(what, value)
    if norm == "Linf" and number > 1:
        raise InputError(
            f"{what} {number:g} is larger than the range of pixels, which run from 0 to 1",
            hint=f"{what} {number:g} is in units of 1/255? write {number:g}/255",
        )


def _refuse_text(what: str, value: str) -> float:
    raise InputError(f"{what} is the text {value!r}; an Attack holds numbers", hint="pgd(), fgsm() and cw() read texts")


def _check_sparsity(sparsity: float | None, norm: str) -> None:
    if norm != "L1":
        if sparsity is not None:
            raise InputError(f"sparsity goes with the norm L1, not {norm}")
        return
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 < sparsity <= 1:
        raise InputError(
            f"sparsity is {sparsity!r}; an attack in L1 needs the share of the pixels that a step moves, in (0, 1]",
            hint="0.01 moves the top percentile",
        )

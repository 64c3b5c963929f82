"""Projected gradient descent: the `Attack` value, its one loop for training and evaluation, and `pgd`, `fgsm`, `cw`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from surgery.attack.interface import Iterate
from surgery.attack.losses import LOSSES, LossName
from surgery.attack.norms import NORMS, NormName
from surgery.attack.parsing import pixels
from surgery.attack.random_start import ImageGenerator, random_start
from surgery.attack.target import Target, gradient_of
from surgery.errors import InputError, suggest
from surgery.torch_state import torch_state

Start = Literal["uniform", "zero"]
StepRule = Literal["constant", "linear-decay", "cosine"]

STARTS: tuple[str, ...] = ("uniform", "zero")
"""Where the search starts: at a uniform point of the ball of epsilon, or at the image."""

STEP_RULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear-decay": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2.0,
}
"""The factor on the step size, by the share of the steps that are done, in [0, 1)."""

Objective = Callable[[Tensor], Tensor]
"""Iterates `(batch, channels, height, width)` to losses `(batch,)`, which the search increases."""

Probe = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Iterates and the numbers `(rows,)` of their images to losses `(rows,)` and, where they are known, logits."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A projected-gradient attack (section 7): a threat model and how it is searched.

    `norm` and `epsilon`: the threat model, pixels in [0, 1]. `steps` of `step_size`, scaled by `step_rule`, increase
    `loss`; the targeted form moves towards a target class instead of away from the label. `start` and `restarts`: where
    the search starts and how often. `sparsity`: for L1, the share of the pixels that one step moves; None otherwise.
    `early_stop`: an image leaves an evaluation at its first iterate that fools the model; without it all steps are
    taken and the last iterate counts.

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
        for what, value, known in (
            ("norm", self.norm, NORMS),
            ("loss", self.loss, LOSSES),
            ("step_rule", self.step_rule, STEP_RULES),
            ("start", self.start, STARTS),
        ):
            if value not in known:
                hint = suggest(str(value), known) or f"known are {', '.join(known)}"
                raise InputError(f"{what} {value!r} is unknown", hint=hint)
        for what, count in (("steps", self.steps), ("restarts", self.restarts)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InputError(f"{what}: expected a whole number of at least 1, got {count!r}")
        for what, flag in (("targeted", self.targeted), ("early_stop", self.early_stop)):
            if not isinstance(flag, bool):
                raise InputError(f"{what}: expected true or false, got {flag!r}")
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

    def __call__(
        self,
        target: Target,
        images: Tensor,
        labels: Tensor,
        generator: ImageGenerator,
        *,
        targets: Tensor | None = None,
    ) -> Generator[Iterate, Tensor | None, None]:
        """Search from every start; if targeted, towards `targets` `(batch,)`, by default every other class in turn.

        With `early_stop` every iterate is yielded, otherwise the last one of each search.
        """
        goals = None
        if self.targeted:
            goals = target.others(labels) if targets is None else targets[:, None]
        for number, restart in itertools.product(range(1 if goals is None else goals.shape[1]), range(self.restarts)):
            # The stream is that of the restart, whatever the target: another target searches from the same start.
            start = random_start(images, self, generator.stream(restart))
            probe = self._probe(target, labels, None if goals is None else goals[:, number])
            loop = ascend(probe, images, self, start=start, gradient=target.gradient)
            # Images that a search has fooled are not searched again; the next start is for the others.
            standing = yield from (loop if self.early_stop else _only_last(loop))
            images, labels, generator = images[standing], labels[standing], generator[standing]
            goals = None if goals is None else goals[standing]

    def _probe(self, target: Target, labels: Tensor, goal: Tensor | None) -> Probe:
        loss = LOSSES[self.loss]

        def probe(iterates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            logits = target.surrogate(iterates)
            if goal is None:
                return loss.untargeted(logits, labels[rows]), logits.detach()
            return loss.targeted(logits, labels[rows], goal[rows]), logits.detach()

        return probe


def search(objective: Objective, images: Tensor, attack: Attack, *, start: Tensor) -> Tensor:
    """Increase `objective` within the threat model of `attack`, from `start`, for all its steps; the last iterate.

    `images` and `start` are `(batch, channels, height, width)` in [0, 1]. Only gradients with respect to the image are
    computed, without the caller's `autocast`. The result is detached, in [0, 1] and within epsilon.
    """
    with torch_state(gradients=True):
        found = start.detach().clone()
        for iterate in ascend(lambda iterates, rows: (objective(iterates), None), images, attack, start=start):
            found = iterate.images
        # In the memory format of the start: the projection of L1 returns another one, in which convolutions are slower.
        return torch.empty_like(start).copy_(found)


def ascend(
    probe: Probe,
    images: Tensor,
    attack: Attack,
    *,
    start: Tensor,
    gradient: Callable[[Tensor, Tensor], Tensor] = gradient_of,
) -> Generator[Iterate, Tensor | None, Tensor]:
    """The projected-gradient loop: yields every iterate from `start` to the last, and takes the mask of those to keep.

    Without a mask all images stay. Returns which images, by number, stay after the last iterate.
    """
    rows = torch.arange(len(images), device=images.device)
    # Tensors that were made in inference mode can have no gradient.
    origin, iterate = images.detach(), start.clone() if start.is_inference() else start.detach()
    for step in range(attack.steps):
        # A leaf of its own in every step, so that only the gradient of the image is computed.
        leaf = iterate.detach().requires_grad_()
        with torch.enable_grad():
            losses, logits = probe(leaf, rows)
        # Before the backward pass: where all images have left, that pass is saved.
        standing = yield Iterate(images=iterate, logits=logits)
        slope = gradient(losses, leaf)
        if standing is not None and not bool(standing.all()):
            rows, origin, iterate, slope = rows[standing], origin[standing], iterate[standing], slope[standing]
        # The graph of the forward pass ends here: the next step does not differentiate through this one.
        with torch.no_grad():
            norm = NORMS[attack.norm]
            moved = iterate + attack.step_at(step) * norm.direction(slope, iterate, attack.sparsity)
            iterate = norm.project(moved, origin, attack.epsilon)
    # No forward pass has seen the last iterate; without logits the reference judges it for every image.
    standing = yield Iterate(images=iterate)
    return rows if standing is None else rows[standing]


def _only_last(loop: Generator[Iterate, Tensor | None, Tensor]) -> Generator[Iterate, Tensor | None, Tensor]:
    """Yield the last iterate only; returns which images stay, as `ascend` does.

    An image that crosses the decision boundary and comes back then counts as right, as in libraries that return images.
    """
    last = next(loop)
    for iterate in loop:
        last = iterate
    standing = yield last
    rows = torch.arange(len(last.images), device=last.images.device)
    return rows if standing is None else rows[standing]


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
    """CW-inf (section 7): projected gradient descent on the margin; 30 steps in the work that the paper builds on."""
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


def _check_size(what: str, value: float, norm: str) -> None:
    if isinstance(value, str):
        raise InputError(
            f"{what} is the text {value!r}; an Attack holds numbers", hint="pgd(), fgsm() and cw() read texts"
        )
    number = pixels(value, what=what)
    if norm == "Linf" and number > 1:
        raise InputError(
            f"{what} {number:g} is larger than the range of pixels, which run from 0 to 1",
            hint=f"{what} {number:g} is in units of 1/255? write {number:g}/255",
        )


def _check_sparsity(sparsity: float | None, norm: str) -> None:
    if norm != "L1":
        if sparsity is not None:
            raise InputError(f"expected no sparsity for the norm {norm}: only L1 has one", hint="omit sparsity")
        return
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 < sparsity <= 1:
        raise InputError(
            f"expected a sparsity for L1, the share of the pixels that a step moves, in (0, 1], got {sparsity!r}",
            hint="0.01 moves the top percentile",
        )

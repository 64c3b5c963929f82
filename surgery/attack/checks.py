"""Checks of every evaluation, on a few of its images, for the usual reasons why a robust accuracy is wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.attack.batches import attack_batch
from surgery.attack.engine import Function
from surgery.attack.interface import AttackProtocol, adapted
from surgery.attack.losses import LOSSES
from surgery.attack.norms import NORMS
from surgery.attack.pgd import Attack, search
from surgery.attack.random_start import generator_of, random_start
from surgery.attack.target import Target, training_during, training_modules


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check: its name, whether it passed, and the measurement."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {'passed' if self.passed else 'failed'}: {self.detail}"


class EvaluationWarning(UserWarning):
    """A check of an evaluation failed, so its accuracies may be wrong."""


def warn(checks: Iterable[Check]) -> None:
    """Warn about failed checks, at the line that called the function that calls this one."""
    for check in checks:
        if not check.passed:
            warnings.warn(str(check), EvaluationWarning, stacklevel=3)


def attempt(name: str, /, check: Callable[..., Check | None], *arguments: Any, **keywords: Any) -> Iterator[Check]:
    """The result of `check`, if it has one; an exception in it is a failed check called `name`.

    A check runs the code of a user's model on batches that the evaluation itself may never make, such as a single
    image. Accuracies that are computed must not be lost because of it.
    """
    try:
        found = check(*arguments, **keywords)
        yield from () if found is None else (found,)
    except Exception as error:
        yield Check(name=name, passed=False, detail=f"the check raised {type(error).__name__}: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line of the message of an exception; torch appends pages to some."""
    return next(iter(str(error).splitlines()), "")


def check_mode(model: nn.Module, reference: Function, images: Tensor, *, name: str, detail: str) -> Check:
    """Is every module in evaluation mode before, during and after a forward pass? `detail`: of a passed check."""
    before = training_modules(model)
    during = training_during(model, lambda: reference(images))
    wrong = list(dict.fromkeys([*before, *during, *training_modules(model)]))
    if wrong:
        detail = f"in training mode before, during or after a forward: {_listed(wrong)}"
    return Check(name=name, passed=not wrong, detail=detail)


@torch.no_grad()
def check_repeatable(reference: Function, images: Tensor) -> Check:
    """Do two forwards of the same images give the same logits?"""
    first, second = reference(images), reference(images)
    off = _relative(first, second)
    return Check(
        name="repeatable forward",
        passed=off <= SAME,
        detail="two forwards agree" if off <= SAME else f"two forwards differ by {off:.2g} of the largest logit",
    )


@torch.no_grad()
def check_independent(reference: Function, images: Tensor) -> Check:
    """Are the logits of an image the same alone and in a batch?"""
    off = _relative(reference(images)[:1], reference(images[:1]))
    return Check(
        name="independent images",
        passed=off <= SAME,
        detail=(
            "an image has the same logits alone and in a batch"
            if off <= SAME
            else f"the logits of an image depend on its batch: they differ by {off:.2g} of the largest"
        ),
    )


SAME = 1e-3
"""The largest difference of float32 logits, relative to the largest one, that another order of sums explains."""


def check_logits(logits: Tensor) -> Check:
    """Are the outputs logits, not probabilities? A softmax in the model flattens the loss that attacks follow."""
    # Logits in [0, 1] occur by chance; that those of every image sum to one as well does not.
    sums = logits.sum(1)
    probabilities = bool((logits >= 0).all()) and bool((sums - 1.0).abs().max() < 1e-3)
    detail = "outputs are in [0, 1] and sum to 1: the model returns probabilities; take off its softmax"
    return Check(
        name="logits",
        passed=not probabilities,
        detail=detail if probabilities else f"outputs from {float(logits.min()):.3g} to {float(logits.max()):.3g}",
    )


def check_gradients(target: Target, images: Tensor, labels: Tensor, attacks: Iterable[AttackProtocol]) -> Check | None:
    """How many of the images that the model is right on have a gradient that is zero or not finite, for each loss?

    None where no attack has a loss: such attacks do not follow gradients.
    """
    right = target.predict(images) == labels
    images, labels = images[right], labels[right]
    total, found = len(images), {}
    for loss in dict.fromkeys(getattr(attack, "loss", "") for attack in attacks):
        if loss in LOSSES and not total:
            found[loss] = 0  # not asked: a model that flattens with `view(len(x), -1)` refuses an empty batch
        elif loss in LOSSES:
            leaf = images.detach().clone().requires_grad_()
            with torch.enable_grad():
                losses = LOSSES[loss].untargeted(target.surrogate(leaf), labels)
            largest = target.gradient(losses, leaf).flatten(1).abs().amax(1)
            found[loss] = int(((largest == 0) | ~largest.isfinite()).sum())
    counts = ", ".join(f"{count} of {total} for {loss}" for loss, count in found.items())
    if not found:
        return None
    return Check(
        name="gradients",
        passed=max(found.values()) <= MASKED * total,
        detail=f"gradients that are zero or not finite: {counts}",
    )


MASKED = 0.1
"""The share of images without a gradient above which a gradient attack is no evidence of robustness."""


def check_epsilon_zero(
    target: Target, images: Tensor, labels: Tensor, attacks: Mapping[str, AttackProtocol], *, seed: int
) -> Check:
    """Does an attack of size zero change nothing? Attacks without a dataclass field `epsilon` are not run."""
    clean = target.predict(images)
    changed, refused = [], []
    for name, attack in attacks.items():
        try:
            # Without early stop, so that images that are wrong without an attack are run as well.
            nothing = adapted(attack, epsilon=0.0, steps=1, restarts=1, early_stop=False)
            if nothing.epsilon != 0:
                continue
            found = attack_batch(target, nothing, images, labels, generator=generator_of(images, seed))
        except (
            Exception
        ) as error:  # code of a user may raise anything, and accuracies that are computed must not be lost
            if isinstance(attack, Attack):
                raise
            refused.append(f"{name} raised {type(error).__name__}: {error}")
            continue
        moved = NORMS[attack.norm].distance(found.images - images) > _slack(attack)
        if bool(moved.any()) or not torch.equal(found.predictions, clean):
            changed.append(name)
    detail = f"these attacks change images at epsilon 0: {_listed(changed)}" if changed else "changes no prediction"
    detail = "; ".join([detail, *refused])
    return Check(name="epsilon 0", passed=not changed, detail=detail)


def check_more_steps(target: Target, images: Tensor, labels: Tensor, name: str, attack: Attack, *, seed: int) -> Check:
    """Do twice the steps leave as few images right, up to noise? If not, the loss misleads the search."""
    loss = LOSSES[attack.loss]
    start = random_start(images, attack, generator_of(images, seed).stream(0))

    def after(iterate: Tensor) -> Tensor:
        return search(lambda x: loss.untargeted(target.surrogate(x), labels), images, attack, start=iterate)

    # Continued from its last iterate, the search has taken twice the steps at the cost of one more search.
    once = after(start)
    right = target.predict(once) == labels
    still = target.predict(after(once)) == labels
    regained, lost = int((still & ~right).sum()), int((right & ~still).sum())
    return Check(
        name=f"more steps: {name}",
        passed=regained - lost <= max(1.0, NOISE * math.sqrt(regained + lost)),
        detail=f"{int(right.sum())} of {len(right)} right after {attack.steps} steps, "
        f"{int(still.sum())} after {2 * attack.steps}",
    )


NOISE = 1.645
"""One-sided 5 % quantile of the normal distribution: by chance as many images change to right as to wrong."""


def check_within(name: str, attack: AttackProtocol, distances: Tensor) -> Check:
    """Is every perturbation within epsilon, and every attacked image in [0, 1]? `distances` `(n,)` are measured."""
    largest = float(distances.max())
    outside = math.isinf(largest)
    return Check(
        name=f"within epsilon: {name}",
        passed=largest <= attack.epsilon + _slack(attack),
        detail=(
            "an attacked image has pixels outside [0, 1]"
            if outside
            else f"the largest {attack.norm} distance is {largest:.6g}, epsilon {attack.epsilon:.6g}"
        ),
    )


def distances(images: Tensor, attacked: Tensor, attack: AttackProtocol) -> Tensor:
    """How far attacked images are from the images `(batch,)`, float64; infinite for one that leaves [0, 1]."""
    inside = ((attacked >= 0) & (attacked <= 1)).flatten(1).all(1)
    apart = NORMS[attack.norm].distance(attacked.double() - images.double())
    return torch.where(inside, apart, math.inf)


def _slack(attack: AttackProtocol) -> float:
    """Rounding of the pixels to float32; for L1, which adds it up over all pixels, relative to epsilon."""
    return 1e-6 + 2e-5 * attack.epsilon


def _relative(first: Tensor, second: Tensor) -> float:
    # Relative to the largest logit of the batch: networks differ in the scale of their logits by orders of magnitude.
    off = float((first - second).abs().max() / first.abs().max().clamp_min(1e-12))
    return math.inf if math.isnan(off) else off


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

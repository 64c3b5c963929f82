"""What can be wrong with a robust accuracy, looked at in every evaluation on a few of its images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from surgery.attack.attack import Attack
from surgery.attack.batches import Batch, attack_batch
from surgery.attack.engine import Function, Victim
from surgery.attack.modes import training_during, training_modules
from surgery.attack.norms import NORMS
from surgery.attack.search import search
from surgery.attack.starts import own_start


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: what was looked at, whether it is as it should be, and what was found."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {'passed' if self.passed else 'failed'}: {self.detail}"


class EvaluationWarning(UserWarning):
    """A check of an evaluation failed: its accuracies may not mean what they seem to."""


def warn(checks: Iterable[Check]) -> None:
    """Warn about the checks that failed, at the line that called whatever calls this."""
    for check in checks:
        if not check.passed:
            warnings.warn(str(check), EvaluationWarning, stacklevel=3)


def check_mode(model: nn.Module, truth: Function, images: Tensor, *, name: str, came: str) -> Check:
    """Is every module in evaluation mode before, during and after a forward? `came` says how the model came."""
    before = training_modules(model)
    during = training_during(model, lambda: truth(images))
    wrong = list(dict.fromkeys([*before, *during, *training_modules(model)]))
    detail = f"in training mode before, during or after a forward: {_listed(wrong)}" if wrong else came
    return Check(name=name, passed=not wrong, detail=detail)


@torch.no_grad()
def check_repeatable(truth: Function, images: Tensor) -> Check:
    """Do two forwards of the same images give the same logits?"""
    first, second = truth(images), truth(images)
    off = _relative(first, second)
    return Check(
        name="repeatable forward",
        passed=off <= SAME,
        detail="two forwards agree" if off <= SAME else f"two forwards differ by {off:.2g} of the largest logit",
    )


@torch.no_grad()
def check_independent(truth: Function, images: Tensor) -> Check:
    """Are the logits of an image the same alone and in a batch?"""
    off = _relative(truth(images)[:1], truth(images[:1]))
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
"""How far two float32 forwards may be apart, as a share of the largest logit: sums in another order, no more."""


def check_logits(logits: Tensor) -> Check:
    """Are the outputs logits, not probabilities? A softmax in the model flattens the loss that attacks follow."""
    sums = logits.sum(1)
    probabilities = bool((logits >= 0).all()) and bool((sums - 1.0).abs().max() < 1e-3)
    detail = "outputs are in [0, 1] and sum to 1: the model returns probabilities; take off its softmax"
    return Check(
        name="logits",
        passed=not probabilities,
        detail=detail if probabilities else f"outputs from {float(logits.min()):.3g} to {float(logits.max()):.3g}",
    )


def check_gradients(victim: Victim, batch: Batch, attacks: Iterable[Attack]) -> Check:
    """How many of the images that the model is right on have a gradient that is zero or not finite, for each loss?"""
    batch = batch.rows(victim.predict(batch.images) == batch.labels)
    total, found = len(batch.images), {}
    for attack in {attack.loss: attack for attack in attacks}.values():
        leaf = batch.images.detach().clone().requires_grad_()
        with torch.enable_grad():
            losses = batch.loss(victim.quick(leaf), attack, 0)
        [gradient] = torch.autograd.grad(losses.sum(), leaf)
        largest = gradient.flatten(1).abs().amax(1)
        found[attack.loss] = int(((largest == 0) | ~largest.isfinite()).sum())
    worst = max(found.values())
    counts = ", ".join(f"{count} of {total} for {loss}" for loss, count in found.items())
    return Check(
        name="gradients",
        passed=worst <= MASKED * total,
        detail=f"gradients that are zero or not finite: {counts}",
    )


MASKED = 0.1
"""The share of images without a gradient above which attacks by gradients say little."""


def check_epsilon_zero(victim: Victim, batch: Batch, attacks: Mapping[str, Attack], *, seed: int) -> Check:
    """Does an attack of size zero change nothing?"""
    clean = victim.predict(batch.images)
    changed = []
    for name, attack in attacks.items():
        nothing = replace(attack, epsilon=0.0, steps=1, restarts=1, early_stop=False)
        found = attack_batch(victim, batch, nothing, seed=seed)
        moved = NORMS[attack.norm].distance(found.images - batch.images) > _slack(attack)
        if bool(moved.any()) or not torch.equal(found.predictions, clean):
            changed.append(name)
    detail = f"these attacks change images at epsilon 0: {_listed(changed)}" if changed else "changes no prediction"
    return Check(name="epsilon 0", passed=not changed, detail=detail)


def check_more_steps(victim: Victim, batch: Batch, name: str, attack: Attack, *, seed: int) -> Check:
    """Do twice the steps leave as few images right, up to noise? If not, the loss leads the search astray."""
    start = own_start(batch.images, attack, batch.keys, seed=seed, restart=0)

    def go_on(iterate: Tensor) -> Tensor:
        return search(lambda x: batch.loss(victim.quick(x), attack, 0), batch.images, attack, start=iterate)

    once = go_on(start)
    right = victim.predict(once) == batch.labels
    still = victim.predict(go_on(once)) == batch.labels
    regained, lost = int((still & ~right).sum()), int((right & ~still).sum())
    return Check(
        name=f"more steps: {name}",
        passed=regained - lost <= max(1.0, NOISE * math.sqrt(regained + lost)),
        detail=f"{int(right.sum())} of {len(right)} right after {attack.steps} steps, "
        f"{int(still.sum())} after {2 * attack.steps}",
    )


NOISE = 1.645
"""One-sided 5 % of the normal distribution: images that change sides by chance do so both ways."""


def check_within(name: str, attack: Attack, distances: Tensor) -> Check:
    """Is every perturbation within epsilon, and every attacked image in [0, 1]? `distances` `(n,)` were recomputed."""
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


def distances(images: Tensor, attacked: Tensor, attack: Attack) -> Tensor:
    """How far attacked images are from the images `(batch,)`, float64; infinite for one that leaves [0, 1]."""
    inside = ((attacked >= 0) & (attacked <= 1)).flatten(1).all(1)
    apart = NORMS[attack.norm].distance(attacked.double() - images.double())
    return torch.where(inside, apart, math.inf)


def _slack(attack: Attack) -> float:
    """Rounding of the pixels to float32, over all of them for L1."""
    return 1e-6 + 2e-5 * attack.epsilon


def _relative(first: Tensor, second: Tensor) -> float:
    off = float((first - second).abs().max() / first.abs().max().clamp_min(1e-12))
    return math.inf if math.isnan(off) else off


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

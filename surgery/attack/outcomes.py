"""What an evaluation gives: outcomes for each image, accuracies with their uncertainty, paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from torch import Tensor

from surgery.attack.attack import Attack
from surgery.attack.checks import Check
from surgery.errors import InputError, suggest

NORMAL_95 = 1.959963984540054
"""Two-sided 95 % of the standard normal distribution."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of every image.

    `labels` and `predictions` `(n,)`, int64: the true class, and the one that the attacked image gets from the model
    itself in float32. `attack` is None for images as they are, and for the worst case. `distances` `(n,)`: how far the
    images were moved, in the norm of the attack, or None. `seconds`: how long it took.
    """

    attack: Attack | None
    labels: Tensor
    predictions: Tensor
    distances: Tensor | None
    num_classes: int
    seconds: float

    @property
    def per_sample(self) -> Tensor:
        """Which images are still right, `(n,)`, bool."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """The share of the images that are still right."""
        return float(self.per_sample.double().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Wilson)."""
        return wilson(int(self.per_sample.sum()), len(self.labels))

    @property
    def per_class(self) -> Tensor:
        """The accuracy of each class `(K,)`, float64; NaN for a class without images."""
        right = torch.bincount(self.labels[self.per_sample], minlength=self.num_classes)
        return right.double() / torch.bincount(self.labels, minlength=self.num_classes).double()

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Outcome({self.accuracy:.2%} of {len(self.labels)}, 95 % {low:.2%} to {high:.2%}, {self.seconds:.1f} s)"


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two evaluations of the same images.

    `difference`: the accuracy of the second less that of the first. `only_first`, `only_second`: how many images are
    right in one of them only. `p_value`: of McNemar's exact test that both are equally accurate.
    """

    difference: float
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Mapping[str, Outcome]):
    """Outcomes by name: `natural`, then the attacks in their order.

    `worst_case`: an image is right where it is as it is and under every attack. `checks`: what was checked. `notes`:
    what the search ran on.
    """

    outcomes: Mapping[str, Outcome]
    worst_case: Outcome
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    seed: int

    def __getitem__(self, name: str) -> Outcome:
        if name not in self.outcomes:
            raise KeyError(f"{name!r} was not evaluated; {suggest(name, self.outcomes) or f'there are {[*self]}'}")
        return self.outcomes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        rows = {**self.outcomes, "worst case": self.worst_case}
        failed = [check.name for check in self.checks if not check.passed]
        lines = [f"{name}: {outcome!r}" for name, outcome in rows.items()]
        return "\n".join([*lines, f"checks that failed: {', '.join(failed) or 'none'}"])

    def compare(self, other: Evaluation) -> dict[str, Paired]:
        """This evaluation (the first) against another one of the same images, by what both evaluated.

        Raises InputError where the labels are not the same.
        """
        if not torch.equal(self.worst_case.labels, other.worst_case.labels):
            raise InputError("the two evaluations are of different images: their labels differ")
        pairs = {name: paired(self[name], other[name]) for name in self if name in other}
        return {**pairs, "worst case": paired(self.worst_case, other.worst_case)}


def paired(first: Outcome, second: Outcome) -> Paired:
    """McNemar's exact test on outcomes of the same images."""
    mine, theirs = first.per_sample, second.per_sample
    only_first, only_second = int((mine & ~theirs).sum()), int((~mine & theirs).sum())
    changed = only_first + only_second
    return Paired(
        difference=second.accuracy - first.accuracy,
        only_first=only_first,
        only_second=only_second,
        p_value=float(binomtest(only_first, changed).pvalue) if changed else 1.0,
    )


def worst_of(outcomes: Mapping[str, Outcome]) -> Outcome:
    """For every image the first outcome in which it is wrong, or else the last one."""
    first, *rest = outcomes.values()
    predictions = first.predictions
    for outcome in rest:
        predictions = torch.where(predictions == first.labels, outcome.predictions, predictions)
    return Outcome(
        attack=None,
        labels=first.labels,
        predictions=predictions,
        distances=None,
        num_classes=first.num_classes,
        seconds=sum(outcome.seconds for outcome in outcomes.values()),
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): it stays in [0, 1], and is no point at 0 and 1."""
    share, z = successes / trials, NORMAL_95
    shrink = 1.0 / (1.0 + z * z / trials)
    centre = shrink * (share + z * z / (2 * trials))
    half = shrink * z * math.sqrt(share * (1.0 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)

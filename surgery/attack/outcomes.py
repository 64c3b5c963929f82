"""The results of an evaluation: outcomes for each image, accuracies with intervals, and paired comparisons."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from torch import Tensor

from surgery.attack.checks import Check
from surgery.attack.interface import AttackProtocol
from surgery.errors import InputError, suggest


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What every image is classified as under one attack.

    `labels` and `predictions` `(n,)`, int64: the true class, and the class that the reference in float32 gives the
    attacked image. `attack` is None for images without an attack, and for the worst case. `distances` `(n,)`: how far
    the images were moved, in the norm of the attack, or None. `seconds`: how long it took.
    """

    attack: AttackProtocol | None
    labels: Tensor
    predictions: Tensor
    distances: Tensor | None
    num_classes: int
    seconds: float

    @property
    def per_sample(self) -> Tensor:
        """Which images are classified correctly, `(n,)`, bool."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """The share of the images that are classified correctly."""
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

    def _repr_html_(self) -> str:
        return _table([("", "accuracy", "95 % interval", "seconds"), ("outcome", *_columns(self))])


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two classifiers on the same images.

    `difference`: the accuracy of the second minus that of the first. `only_first`, `only_second`: how many images only
    one of them is right on. `p_value`: of McNemar's exact test that both are equally accurate.
    """

    difference: float
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Mapping[str, Outcome]):
    """Outcomes by name: `natural`, then the attacks in their order.

    `worst_case`: an image is right if it is right without an attack and under every attack. `checks`: what was checked.
    `notes`: what the search ran on. `notices`: signs that the model and the data do not fit together.
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
        width = max(map(len, rows))
        lines = [f"{name:<{width}}  {outcome!r}" for name, outcome in rows.items()]
        return "\n".join([f"Evaluation of {len(self.worst_case.labels)} images", *lines, *self._said()])

    def _repr_html_(self) -> str:
        rows = {**self.outcomes, "worst case": self.worst_case}
        table = [("", "accuracy", "95 % interval", "seconds"), *((name, *_columns(rows[name])) for name in rows)]
        said = "".join(f"<p>{html.escape(line)}</p>" for line in self._said())
        return f"<p>{len(self.worst_case.labels)} images</p>{_table(table)}{said}"

    @property
    def notices(self) -> tuple[str, ...]:
        """Signs that the model and the data do not fit together: at present, a natural accuracy at chance level."""
        natural = self["natural"]
        chance = 1 / natural.num_classes
        if natural.interval[0] > chance:
            return ()
        return (
            f"natural accuracy {natural.accuracy:.1%} is not above chance ({chance:.1%}): is the normalization that of"
            " the training, are the classes in its order, and are the weights trained?",
        )

    def _said(self) -> list[str]:
        """Lines below the accuracies: notices, checks that failed (or how many passed), and notes."""
        failed = [f"check {check}" for check in self.checks if not check.passed]
        passed = [f"all {len(self.checks)} checks passed"]
        return [*(f"notice: {text}" for text in self.notices), *(failed or passed), *self.notes]

    def compare(self, other: Evaluation) -> dict[str, Paired]:
        """Compare this evaluation (the first) with another one of the same images, for each attack that both have.

        Raises InputError if the labels are not the same.
        """
        if not torch.equal(self.worst_case.labels, other.worst_case.labels):
            raise InputError("the two evaluations are of different images: their labels differ")
        pairs = {name: mcnemar(self[name].per_sample, other[name].per_sample) for name in self if name in other}
        return {**pairs, "worst case": mcnemar(self.worst_case.per_sample, other.worst_case.per_sample)}


def mcnemar(first: ArrayLike | Tensor, second: ArrayLike | Tensor) -> Paired:
    """McNemar's exact test on the same images: `first` and `second` `(n,)` say which of them are classified correctly.

    Raises InputError for arrays of different lengths.
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise InputError(
            f"McNemar's test takes two arrays of the same images; got shapes {one.shape} and {other.shape}"
        )
    only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
    # Images on which both agree say nothing about a difference: the others favor one side like tosses of a coin.
    changed = only_first + only_second
    return Paired(
        difference=float(other.mean() - one.mean()),
        only_first=only_first,
        only_second=only_second,
        p_value=float(binomtest(only_first, changed).pvalue) if changed else 1.0,
    )


def worst_of(outcomes: Mapping[str, Outcome]) -> Outcome:
    """For every image the first outcome in which it is wrong, otherwise the last one."""
    # A predicted class comes from one attack: the first that fools the network, in the order of the mapping.
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
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _columns(outcome: Outcome) -> tuple[str, str, str]:
    low, high = outcome.interval
    return f"{outcome.accuracy:.2%}", f"{low:.2%} to {high:.2%}", f"{outcome.seconds:.1f}"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """An HTML table, the first row its head."""
    # Names of attacks are a user's, and may hold any character.
    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"

"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from surgery.errors import InputError


class Schedule(Protocol):
    """A learning rate for each step of a training run."""

    def at(self, step: int, *, batches: int, epochs: int) -> float:
        """The learning rate of step number `step`, from zero, of `epochs` epochs of `batches` steps each."""
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same learning rate throughout."""

    learning_rate: float

    def __post_init__(self) -> None:
        _check_positive("learning rate", self.learning_rate)

    def at(self, step: int, *, batches: int, epochs: int) -> float:
        return self.learning_rate


@dataclass(frozen=True, kw_only=True)
class MultiStep:
    """`learning_rate`, multiplied by `factor` after each number of epochs in `milestones` (section 6: 0.1; 75, 90).

    After 75 epochs epoch 76 is the first with the lower rate. The published codes of TRADES and MART lower it in epoch
    75, as milestones of 74 and 89 do here.
    """

    learning_rate: float
    milestones: Sequence[int]
    factor: float

    def __post_init__(self) -> None:
        _check_positive("learning rate", self.learning_rate)
        _check_positive("factor", self.factor)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        pairs = zip((0, *self.milestones), self.milestones, strict=False)
        if any(isinstance(later, bool) or not isinstance(later, int) or later <= earlier for earlier, later in pairs):
            raise InputError(f"expected milestones that are increasing epochs from 1 on, got {list(self.milestones)}")

    def at(self, step: int, *, batches: int, epochs: int) -> float:
        passed = sum(milestone <= step // batches for milestone in self.milestones)
        return self.learning_rate * self.factor**passed


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from `learning_rate` down to `final`, updated in every step."""

    learning_rate: float
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("learning rate", self.learning_rate)

    def at(self, step: int, *, batches: int, epochs: int) -> float:
        return _cosine(self.learning_rate, self.final, step / (batches * epochs))


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Up to `learning_rate` and down again (Smith & Topin 2019), equal to torch's OneCycleLR for the same numbers.

    `warmup`: the share of all steps on the way up. `initial` and `final`: the first and last learning rate, as shares
    of the highest one. `shape`: of both ways.
    """

    learning_rate: float
    warmup: float = 0.3
    initial: float = 1 / 25
    final: float = 1 / 250_000
    shape: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        _check_positive("learning rate", self.learning_rate)
        if not 0 < self.warmup < 1:
            raise InputError(f"expected a warmup between 0 and 1, a share of all steps, got {self.warmup!r}")
        if self.shape not in _SHAPES:
            raise InputError(f"expected a shape of {' or '.join(_SHAPES)}, got {self.shape!r}")

    def at(self, step: int, *, batches: int, epochs: int) -> float:
        # torch counts both ways in steps from zero, so the last step of each has exactly its final rate.
        top = self.warmup * batches * epochs - 1
        last = batches * epochs - 1
        low, high, end = (share * self.learning_rate for share in (self.initial, 1.0, self.final))
        if step < top:
            return _SHAPES[self.shape](low, high, step / top)
        return _SHAPES[self.shape](high, end, (step - top) / (last - top))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _linear(first: float, last: float, share: float) -> float:
    return first + (last - first) * share


_SHAPES = {"cosine": _cosine, "linear": _linear}


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise InputError(f"expected a {name} above 0, got {value!r}")

"""The `TrainingConfig`: all that decides what comes out of a training run, as a value with a digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from surgery.attack import Attack
from surgery.data import Augmentation
from surgery.errors import InputError
from surgery.train.averaging import Averaging
from surgery.train.objective import Objective
from surgery.train.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Stochastic gradient descent; the learning rate is the schedule's (section 6: momentum 0.9, weight decay 2e-4)."""

    momentum: float
    weight_decay: float
    nesterov: bool = False

    def __post_init__(self) -> None:
        for what, value in (("momentum", self.momentum), ("weight decay", self.weight_decay)):
            if not math.isfinite(value) or value < 0:
                raise InputError(f"the {what} is {value!r}; a number from 0 on is expected")
        if self.momentum >= 1:
            raise InputError(f"the momentum is {self.momentum!r}; from 1 on steps grow without end")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov goes with a momentum above 0")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training run but for the network and the data.

    `augmentation`: None for images as they are. `averaging`: an `ExponentialAverage` or `StochasticAverage` of the
    weights, which then are the result. `selection`: the attack under which the best epoch has the highest accuracy;
    None for natural accuracy. `select_on`: the split that this is measured on; "test" is the paper's way, overstates,
    and is recorded. `evaluate_every`: epochs between evaluations, 0 for none; the last epoch is always evaluated
    otherwise. `seed`: of order, augmentation, starts of attacks and dropout; not of the weights, which the model has.

    Raises InputError for numbers that make no sense.
    """

    objective: Objective
    optimizer: Optimizer
    schedule: Schedule
    epochs: int
    batch_size: int
    augmentation: Augmentation | None = None
    averaging: Averaging | None = None
    selection: Attack | None = None
    select_on: Literal["validation", "test"] = "validation"
    evaluate_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for what, value, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 1),
            ("evaluate_every", self.evaluate_every, 0),
            ("seed", self.seed, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{what} is {value!r}; a whole number from {least} on is expected")
        if self.select_on not in ("validation", "test"):
            raise InputError(f"select_on is {self.select_on!r}; validation or test is expected")

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal digits, of everything in the plan."""
        return hashlib.sha256(json.dumps(as_json(self), sort_keys=True).encode()).hexdigest()

    def evaluates(self, epoch: int) -> bool:
        """Whether there is an evaluation after epoch number `epoch`, counted from one."""
        return self.evaluate_every > 0 and (epoch % self.evaluate_every == 0 or epoch == self.epochs)


def as_json(value: Any) -> Any:
    """`value` as JSON can hold it, with the names of classes: what a digest is taken of."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, **own}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return value

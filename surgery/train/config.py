"""The `TrainingConfig`: everything that decides the result of a training run, as a value with a digest."""

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
    """Stochastic gradient descent; the learning rate is the schedule's (section 6: momentum 0.9, weight decay 2e-4).

    Raises InputError for numbers outside their range.
    """

    momentum: float
    weight_decay: float
    nesterov: bool = False

    def __post_init__(self) -> None:
        for name, value in (("momentum", self.momentum), ("weight decay", self.weight_decay)):
            if not math.isfinite(value) or value < 0:
                raise InputError(f"expected a {name} of 0 or more, got {value!r}")
        if self.momentum >= 1:
            raise InputError(f"expected a momentum below 1, got {self.momentum!r}: with 1 the steps grow without bound")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0, got 0")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training run, except for the network and the data.

    `augmentation`: None for images as they are. `averaging`: an `ExponentialAverage` or `StochasticAverage` of the
    weights, which then is the result. `selection`: the attack under which the best epoch has the highest accuracy;
    None selects by natural accuracy. `select_on`: the split that this accuracy is measured on; "test" is the paper's
    choice, overstates the result, and is recorded. `evaluate_every`: epochs between evaluations, 0 for none; otherwise
    the last epoch is always evaluated. `seed`: of order, augmentation, starts of attacks and dropout; the first weights
    are those of the network.

    Raises InputError for numbers outside their range.
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
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 1),
            ("evaluate_every", self.evaluate_every, 0),
            ("seed", self.seed, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}: expected a whole number of {least} or more, got {value!r}")
        if self.select_on not in ("validation", "test"):
            raise InputError(f"select_on: expected 'validation' or 'test', got {self.select_on!r}")

    @property
    def digest(self) -> str:
        """The SHA-256 of every field, in hexadecimal digits."""
        return hashlib.sha256(json.dumps(as_json(self), sort_keys=True).encode()).hexdigest()

    def evaluates(self, epoch: int) -> bool:
        """Whether there is an evaluation after epoch number `epoch`, counted from one."""
        return self.evaluate_every > 0 and (epoch % self.evaluate_every == 0 or epoch == self.epochs)


def as_json(value: Any) -> Any:
    """`value` as JSON, with the names of classes: the content of a digest, and of the header of a checkpoint."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
        return {"class": _RECORDED_AS.get(type(value).__name__, type(value).__name__), **own}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return value


_RECORDED_AS = {"TrainingConfig": "TrainingPlan"}
"""Names of classes in the files of earlier versions: under another name, no digest would match and no run resume."""

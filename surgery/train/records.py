"""What training says while it runs and leaves behind, as values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from surgery.errors import SurgeryError

NoticeKind = Literal["probabilities", "catastrophic-overfitting", "robust-overfitting", "unsteady"]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch. Accuracies are shares of images; None where nobody looked.

    `parts`: what the loss is made of. `train_natural`, `train_robust`: of the training batches, at the moment when they
    were trained on. `natural`, `robust`: of the split that the plan selects on; `robust` under its attack.
    `learning_rate`: of the last step. `seconds`: of training, without the evaluation; not the same in two runs.
    """

    epoch: int
    loss: float
    parts: Mapping[str, float]
    train_natural: float | None
    train_robust: float | None
    natural: float | None
    robust: float | None
    learning_rate: float
    seconds: float = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something about a training run that its owner should know, found after epoch `epoch`; 0 is before the first."""

    epoch: int
    kind: NoticeKind
    text: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training is: `batch` of `batches` done in `epoch` of `epochs`, counted from one.

    `loss`: of the last batch. `seconds_left`: for the batches that are left, at the pace so far. `record`: the epoch
    that has just ended, `notice`: what has just been noticed, where this is why progress is reported. `evaluated`: the
    share of the evaluation after the epoch that is done, while it goes on.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    seconds_left: float
    record: EpochRecord | None = None
    notice: Notice | None = None
    evaluated: float | None = None


Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """The result of a training run.

    `model`: after the last epoch, in evaluation mode; with averaging the average. `best`: the state dict of the epoch
    with the highest accuracy on `selected_on`, on the CPU, and `best_epoch` its number; of the last epoch where nothing
    was evaluated, and `selected_on` is None then. `notes`: what it was computed with, in sentences.
    """

    model: nn.Module
    best: Mapping[str, Tensor]
    best_epoch: int
    selected_on: str | None
    history: tuple[EpochRecord, ...]
    notices: tuple[Notice, ...]
    notes: tuple[str, ...]

    @property
    def best_model(self) -> nn.Module:
        """A network of its own with the weights of the best epoch."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(dict(self.best))
        return model


class DivergedError(SurgeryError):
    """The loss became infinite or no number; `history` has the epochs before."""

    def __init__(self, message: str, *, hint: str, history: tuple[EpochRecord, ...]) -> None:
        super().__init__(message, hint=hint)
        self.history = history

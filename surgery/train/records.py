"""What training reports while it runs and returns at its end, as values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from surgery.errors import SurgeryError

NoticeKind = Literal["probabilities", "catastrophic-overfitting", "robust-overfitting", "unsteady", "threads"]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """The numbers of one epoch. Accuracies are shares of images, None where they were not measured.

    `parts`: the terms of the loss. `train_natural`, `train_robust`: of the training batches, with the weights before
    each update. `natural`, `robust`: of the split that the best epoch is selected on; `robust` under the selection
    attack. `learning_rate`: of the last step. `seconds`: of training, without the evaluation; differs between runs.
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
    """A sign that something may be wrong with a training run, found after epoch `epoch`; 0 is before the first."""

    epoch: int
    kind: NoticeKind
    text: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The position of training: `batch` of `batches` is finished in `epoch` of `epochs`, counted from one.

    `loss`: of the last batch. `seconds_left`: for the remaining batches, at the pace so far. `record`: of the epoch,
    if it has just ended. `notice`: set if this report tells a notice. `evaluated`: the finished share of the evaluation
    after the epoch, while it runs.
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

    `model`: the network after the last epoch, in evaluation mode; with averaging the average. `best`: the state dict,
    on the CPU, of the epoch with the highest accuracy on the split `selected_on`; `best_epoch`: its number. Without
    evaluations both are of the last epoch, and `selected_on` is None. `notes`: sentences on how it was computed.
    """

    model: nn.Module
    best: Mapping[str, Tensor]
    best_epoch: int
    selected_on: str | None
    history: tuple[EpochRecord, ...]
    notices: tuple[Notice, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """The epochs that matter, notices and notes; no weights."""
        chosen = {"last": self.history[-1:], "best": self.history[self.best_epoch - 1 : self.best_epoch]}
        lines = [
            f"  {which} epoch {record.epoch}: loss {record.loss:.3f}"
            + "".join(
                f", {name} {share:.1%}"
                for name, share in (("natural", record.natural), ("robust", record.robust))
                if share is not None
            )
            for which, records in chosen.items()
            for record in records
        ]
        said = [f"  notice in epoch {notice.epoch}: {notice.text}" for notice in self.notices]
        selected = f", selected on {self.selected_on}" if self.selected_on else ""
        epochs = "1 epoch" if len(self.history) == 1 else f"{len(self.history)} epochs"
        head = f"Trained {type(self.model).__name__}: {epochs}{selected}"
        return "\n".join([head, *lines, *said, *(f"  {note}" for note in self.notes)])

    @property
    def best_model(self) -> nn.Module:
        """A new network with the weights of the best epoch."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(dict(self.best))
        return model


class DivergedError(SurgeryError):
    """The loss or the weights became infinite or nan; `history` has the epochs before."""

    def __init__(self, message: str, *, hint: str, history: tuple[EpochRecord, ...]) -> None:
        super().__init__(message, hint=hint)
        self.history = history

"""The stage `train`: what became of the losses and accuracies from epoch to epoch, as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from surgery.store.values import Coordinate, Group, Variable
from surgery.train import EpochRecord, Trained

SERIES: Mapping[str, tuple[str, str]] = {
    "loss": ("mean loss of the training batches", "1"),
    "train_natural": ("accuracy on clean training batches", "1"),
    "train_robust": ("accuracy on attacked training batches", "1"),
    "natural": ("accuracy on clean images of the split that the best epoch is selected on", "1"),
    "robust": ("accuracy on these images under the attack of the selection", "1"),
    "learning_rate": ("learning rate of the last step", "1"),
    "seconds": ("time of training, without evaluation", "s"),
}
"""Fields of an epoch's record with their long names and units."""


def training_group(
    trained: Trained, *, data: str, parameters: int, provenance: Mapping[str, str], name: str = "training"
) -> Group:
    """The history of a training run; not a number where nobody looked. `parameters`: how many the network has."""
    history = trained.history
    parts = tuple(history[0].parts) if history else ()
    return Group(
        name=name,
        kind="train",
        coordinates=(
            Coordinate(name="epoch", values=np.arange(1, len(history) + 1), long_name="epoch, counted from one"),
            *((Coordinate(name="part", values=parts, long_name="part of the loss"),) if parts else ()),
        ),
        variables=(
            *(
                Variable(name=key, data=_series(history, key), dimensions=("epoch",), long_name=said, units=units)
                for key, (said, units) in SERIES.items()
            ),
            *_parts(history, parts),
        ),
        attributes={
            "data": data,
            "best_epoch": trained.best_epoch,
            "selected_on": trained.selected_on or "nothing: the last epoch",
            "parameters": parameters,
            "notices": "; ".join(f"epoch {notice.epoch}: {notice.text}" for notice in trained.notices),
        },
        provenance={**provenance, "computed_with": "\n".join(trained.notes)},
    )


def _parts(history: Sequence[EpochRecord], parts: tuple[str, ...]) -> tuple[Variable, ...]:
    """None where the loss is a single term: a store has no empty arrays."""
    if not parts:
        return ()
    means = np.array([[record.parts[part] for part in parts] for record in history])
    return (
        Variable(name="loss_part", data=means, dimensions=("epoch", "part"), long_name="mean of a part of the loss"),
    )


def _series(history: Sequence[EpochRecord], key: str) -> np.ndarray:
    values = [getattr(record, key) for record in history]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

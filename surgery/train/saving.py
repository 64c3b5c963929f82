"""The folder of a training run: the state to go on from, and the networks of the last and the best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from surgery.data import Dataset
from surgery.errors import InputError
from surgery.files import check_writable
from surgery.models import Checkpoint, save_checkpoint
from surgery.train.config import TrainingConfig, as_json
from surgery.train.records import EpochRecord
from surgery.train.resuming import Snapshot, read_snapshot, snapshot_of, write_snapshot
from surgery.train.trainer import Loop

LAST, BEST, RESUME = "last.safetensors", "best.safetensors", "resume.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where a training run is kept, and which network it says it is of.

    `architecture` and `arguments`: what `surgery.models.build` makes the network from; without them the name of its
    class is written, and opening a checkpoint takes a factory. `seconds`: how often the state is written within an
    epoch, besides at its end.
    """

    folder: Path | str
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 600.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Keeper:
    """Reads and writes the folder of one training run.

    `digest`: of plan, data and network. `model_name`: the class of the network.
    """

    checkpoints: Checkpoints
    digest: str
    model_name: str
    data: Dataset
    plan: TrainingConfig

    @property
    def folder(self) -> Path:
        return Path(self.checkpoints.folder)

    def prepare(self, *, anew: bool) -> None:
        """Make the folder, and forget what there is to go on from if all begins `anew`.

        Raises InputError where that cannot be done.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made: {error.strerror}") from error
        check_writable(self.path(RESUME))
        if anew:
            self.path(RESUME).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def read(self) -> Snapshot | None:
        """What to go on from, if there is anything; raises InputError where it is of another training run."""
        return read_snapshot(self.path(RESUME), digest=self.digest)

    def keep(self, loop: Loop, ends_epoch: bool) -> None:
        """Write the state, and at the end of an epoch the networks before it: it says that they are there."""
        if ends_epoch:
            self.networks(loop)
        write_snapshot(self.path(RESUME), snapshot_of(loop, self.digest))

    def networks(self, loop: Loop) -> None:
        """Write the networks of the last and the best epoch."""
        last = loop.history[-1]
        self._save(LAST, last, loop.result.state_dict())
        if loop.best_epoch:
            self._save(BEST, loop.history[loop.best_epoch - 1], loop.best)

    def _save(self, name: str, record: EpochRecord, state: Mapping[str, Tensor]) -> None:
        """The header says how the network was trained and selected, so that nobody has to remember."""
        selected_on = self.plan.select_on if self.plan.evaluate_every else None
        checkpoint = Checkpoint(
            architecture=self.checkpoints.architecture or self.model_name,
            arguments=self.checkpoints.arguments,
            input_shape=self.data.input_shape,
            class_names=self.data.class_names,
            extra={
                "data": self.data.name,
                "record": asdict(record),
                "selected_on": selected_on,
                "plan": as_json(self.plan),
            },
            state=state,
        )
        save_checkpoint(self.path(name), checkpoint)

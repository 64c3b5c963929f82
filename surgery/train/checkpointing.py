"""The folder of a training run: the state to resume from, and the networks of the last and of the best epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from surgery.data import Dataset
from surgery.data.caching import tensor_digest
from surgery.errors import InputError, ModelFileError
from surgery.files import check_writable, write_atomically
from surgery.models import Checkpoint, save_checkpoint
from surgery.models.checkpoint import HEADER_KEY, read_header, read_tensors
from surgery.train.config import TrainingConfig, as_json
from surgery.train.records import EpochRecord
from surgery.train.trainer import Trainer

LAST, BEST, RESUME = "last.safetensors", "best.safetensors", "resume.safetensors"
FORMAT = "surgery-training"
VERSION = 1
GROUPS = ("network", "velocity", "average", "best")
"""The entries of the state that are tensors by name; in the file a tensor is called `group.name`."""
ROWS = "rows"
"""The entry of the state that is a tensor."""
THREADS = "threads"
"""The entry of the header with the number of threads of a training on a CPU, on which the last bits depend."""
DIGEST = "sha256"
"""The entry of the header with the SHA-256 of the other entries and of the tensors."""
NUMBERS = ("epoch", "batch", "seconds", "taken", "best_epoch", "best_score", "history", "notices")
"""The entries of the state that are written into the header."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The folder in which a training run is saved, and the network that its checkpoints name.

    `architecture` and `arguments`: those of `surgery.models.build` for this network. Without them the name of its class
    is written, and opening a checkpoint takes a factory. `seconds`: the time between two writings of the state within
    an epoch; the state is also written at the end of every epoch.
    """

    folder: Path | str
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 600.0


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingFolder:
    """Reads and writes the folder of one training run of `model` (whose weights do not matter) on `data`."""

    checkpoints: Checkpoints
    model: nn.Module
    data: Dataset
    config: TrainingConfig

    @property
    def folder(self) -> Path:
        return Path(self.checkpoints.folder)

    @cached_property  # the digest of the data reads all images
    def digest(self) -> str:
        """The SHA-256 of configuration, data and shapes of the network; a state is resumed by the same run only."""
        shapes = {name: list(tensor.shape) for name, tensor in self.model.state_dict().items()}
        return hashlib.sha256(json.dumps([self.config.digest, self.data.digest, shapes]).encode()).hexdigest()

    def prepare(self, *, resume: bool) -> None:
        """Make the folder; without `resume`, remove the state in it.

        Raises InputError where the folder cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made: {error.strerror}") from error
        check_writable(self.folder / RESUME)
        if not resume:
            (self.folder / RESUME).unlink(missing_ok=True)

    def read(self) -> dict[str, Any] | None:
        """The state to resume from, for `Trainer.load_state_dict`; None where there is none.

        Raises InputError where it belongs to another training run, and ModelFileError where the file is damaged.
        """
        path = self.folder / RESUME
        if not path.exists():
            return None
        restart = "delete this file: the training then starts again from its first epoch"
        try:
            header, tensors = read_header(path), read_tensors(path)
        except ModelFileError as error:
            raise ModelFileError(f"{error.message}; it is the saved state of a training", hint=restart) from None
        hint = "give another folder for checkpoints, or resume=False, which starts over and replaces this state"
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise InputError(
                f"{path}: expected the state of a training run, version {VERSION}, got {header.get('format')!r},"
                f" version {header.get('version')!r}",
                hint=hint,
            )
        # Before the run is compared, which damage could make another one. States of earlier versions have no digest.
        incomplete = [key for key in ("digest", *NUMBERS) if key not in header] or ROWS not in tensors
        if incomplete or header.pop(DIGEST, None) not in (None, _digest(header, tensors)):
            raise ModelFileError(f"{path}: the saved state of the training was damaged or edited", hint=restart)
        if header["digest"] != self.digest:
            raise InputError(
                f"{path}: expected the state of this training run, got one with another configuration, other data or"
                " another network",
                hint=hint,
            )
        state: dict[str, Any] = {key: header[key] for key in NUMBERS} | {group: {} for group in GROUPS}
        state[THREADS] = header.get(THREADS)
        for key, tensor in tensors.items():
            group, _, name = key.partition(".")
            if name:
                state[group][name] = tensor
            else:
                state[group] = tensor
        return state

    def save(self, trainer: Trainer, ends_epoch: bool) -> None:
        """Write the state of `trainer`, whole or not at all; at the end of an epoch the two networks as well."""
        # The networks first: after a crash in between, the old state repeats the epoch and writes them again. The new
        # state with the old networks would never be corrected.
        if ends_epoch:
            self.save_networks(trainer)
        state = trainer.state_dict()
        tensors = {f"{group}.{name}": tensor for group in GROUPS for name, tensor in state[group].items()}
        tensors[ROWS] = state[ROWS]
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {"format": FORMAT, "version": VERSION, "digest": self.digest, **{key: state[key] for key in NUMBERS}}
        header[THREADS] = threads_of(trainer.device)
        header[DIGEST] = _digest(header, tensors)
        content = safetensors.torch.save(tensors, metadata={HEADER_KEY: json.dumps(header)})
        write_atomically(self.folder / RESUME, content)

    def save_networks(self, trainer: Trainer) -> None:
        """Write the networks of the last and of the best epoch."""
        self._save(LAST, trainer.history[-1], trainer.result.state_dict())
        if trainer.best_epoch:
            self._save(BEST, trainer.history[trainer.best_epoch - 1], trainer.best)

    def _save(self, name: str, record: EpochRecord, state: Mapping[str, Tensor]) -> None:
        checkpoint = Checkpoint(
            architecture=self.checkpoints.architecture or type(self.model).__name__,
            arguments=self.checkpoints.arguments,
            input_shape=self.data.input_shape,
            class_names=self.data.class_names,
            # How the network was trained and selected: the file can be judged without the script that wrote it.
            extra={
                "data": self.data.name,
                "record": asdict(record),
                "selected_on": self.config.select_on if self.config.evaluate_every else None,
                "plan": as_json(self.config),
            },
            state=state,
        )
        save_checkpoint(self.folder / name, checkpoint)


def threads_of(device: torch.device) -> int | None:
    """The number of threads that training computes with; None on a GPU, where they affect no result."""
    return torch.get_num_threads() if device.type == "cpu" else None


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256, in hexadecimal digits, of the header without its own digest and of the tensors."""
    # Through JSON once, as a header that was read has been: tuples are lists there, and keys texts.
    said = json.dumps(json.loads(json.dumps(header)), sort_keys=True)
    return hashlib.sha256(f"{said} {tensor_digest(tensors)}".encode()).hexdigest()

"""The state of a training run at the end of a batch, in one safe file: enough to go on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.files import write_atomically
from surgery.models.checkpoint import HEADER_KEY, read_header, read_tensors
from surgery.train.records import EpochRecord, Notice
from surgery.train.trainer import Loop

FORMAT = "surgery-training"
VERSION = 1
VELOCITY = "momentum_buffer"
"""What torch calls it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A training run after `epoch` epochs and `batch` batches of the next one, `seconds` into it.

    `digest`: of plan, data and network. `taken`: how many weights the average has. `best_epoch`, `best_score`: of the
    best epoch so far. `tensors`: everything that is a tensor, by name.
    """

    digest: str
    epoch: int
    batch: int
    seconds: float
    taken: int
    best_epoch: int
    best_score: float
    history: tuple[EpochRecord, ...]
    notices: tuple[Notice, ...]
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name.`, without that."""
        start = f"{name}."
        return {key.removeprefix(start): tensor for key, tensor in self.tensors.items() if key.startswith(start)}


def snapshot_of(loop: Loop, digest: str) -> Snapshot:
    """The state of `loop`, which is between two batches; `digest` says whose it is."""
    averaged = {} if loop.average is None else _memory(loop.average)
    groups = {
        "network": _memory(loop.network),
        "velocity": _velocity(loop),
        "average": averaged,
        "best": loop.best,
    }
    tensors = {f"{group}.{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
    return Snapshot(
        digest=digest,
        epoch=loop.epoch,
        batch=loop.batch,
        seconds=loop.seconds,
        taken=loop.taken,
        best_epoch=loop.best_epoch,
        best_score=loop.best_score,
        history=tuple(loop.history),
        notices=tuple(loop.notices),
        tensors={**tensors, "rows": loop.tally.rows[: loop.batch]},
    )


@torch.no_grad()
def restore(loop: Loop, snapshot: Snapshot) -> None:
    """Make `loop` go on from `snapshot`, which is of the same plan, data and network."""
    _load(loop.network, snapshot.part("network"))
    if loop.average is not None:
        _load(loop.average, snapshot.part("average"))
    for name, tensor in snapshot.part("velocity").items():
        parameter = loop.network.get_parameter(name)
        loop.stepper.optimizer.state[parameter][VELOCITY] = torch.empty_like(parameter).copy_(tensor)
    loop.tally.begin(snapshot.tensors["rows"])
    loop.epoch, loop.batch, loop.seconds = snapshot.epoch, snapshot.batch, snapshot.seconds
    loop.taken, loop.best_epoch, loop.best_score = snapshot.taken, snapshot.best_epoch, snapshot.best_score
    loop.best = snapshot.part("best")
    loop.history, loop.notices = list(snapshot.history), list(snapshot.notices)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write `snapshot` to `path`, whole or not at all; raises InputError where that cannot be done."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
    entries = {key: value for key, value in vars(snapshot).items() if key not in ("tensors", "history", "notices")}
    header = {
        "format": FORMAT,
        "version": VERSION,
        **entries,
        "history": [asdict(record) for record in snapshot.history],
        "notices": [asdict(notice) for notice in snapshot.notices],
    }
    write_atomically(path, safetensors.torch.save(tensors, metadata={HEADER_KEY: json.dumps(header)}))


def read_snapshot(path: Path, *, digest: str) -> Snapshot | None:
    """The snapshot at `path`, None where there is none.

    Raises InputError where it belongs to another plan, other data or another network than `digest`, and ModelFileError
    where the file is damaged.
    """
    if not path.exists():
        return None
    header = read_header(path)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise InputError(f"{path}: not the state of a training run that this surgery can continue", hint=_HINT)
    if header["digest"] != digest:
        raise InputError(
            f"{path}: the state of a training run with another plan, other data or another network", hint=_HINT
        )
    return Snapshot(
        **{key: header[key] for key in ("digest", "epoch", "batch", "seconds", "taken", "best_epoch", "best_score")},
        history=tuple(EpochRecord(**entry) for entry in header["history"]),
        notices=tuple(Notice(**entry) for entry in header["notices"]),
        tensors=read_tensors(path),
    )


def _velocity(loop: Loop) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter that it has moved; nothing without momentum."""
    state = loop.stepper.optimizer.state
    found = {name: state.get(tensor, {}).get(VELOCITY) for name, tensor in loop.network.named_parameters()}
    return {name: velocity for name, velocity in found.items() if velocity is not None}


def _memory(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in _memory(network).items():
        tensor.copy_(tensors[name])


_HINT = "give another folder for checkpoints, or resume=False, which begins anew and replaces what is there"

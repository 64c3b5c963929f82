"""`fit`: a network, data and a plan in; the trained network, its best epoch and the history out."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from surgery.attack.engine import home_of
from surgery.data import Dataset
from surgery.train.batchnorm import share_batch_norm
from surgery.train.checking import check_network, fitted
from surgery.train.config import TrainingConfig
from surgery.train.engine import Engine, find_device
from surgery.train.processes import Processes, device_of_process, join
from surgery.train.records import Notice, Progress, Report, Trained
from surgery.train.resuming import restore
from surgery.train.saving import Checkpoints, Keeper
from surgery.train.trainer import Hooks, Loop, Setting


def fit(
    model: nn.Module,
    data: Dataset,
    plan: TrainingConfig,
    *,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
    checkpoints: Checkpoints | Path | str | None = None,
    resume: bool = True,
    progress: Report | None = None,
) -> Trained:
    """Train a copy of `model` on `data`; the model itself, its mode and the global random state stay as they are.

    Everything random comes from the seed of the plan. `device`: a GPU by default where there is one. `engine`: how it
    computes, by default what is fast there; the notes of the result say what that was. With `checkpoints` the state of
    the training is kept in that folder, beside `last.safetensors` and `best.safetensors`, and a training that was
    stopped goes on from it: on a CPU it ends with the same bits as one that was not. `resume=False` begins anew.

    `progress` is called after every batch (on a GPU about once a second), after every epoch and with every notice. What
    it raises stops the training, with its state kept.

    Under a launcher as `torchrun`, every process calls this with the same arguments; each works on its share of every
    batch, and the first one writes and reports.

    Raises InputError where model, data and plan do not fit together or the folder holds another training run, and
    DivergedError where the loss becomes infinite or no number.
    """
    home = device_of_process(find_device(device))
    processes = join(home)
    with _settings_kept(home):
        plan = fitted(plan, data, processes.count)
        loop, notices = _loop(model, data, plan, home, engine or Engine(), processes)
        keeper = _keeper(checkpoints, model, data, plan)
        notes = [f"{home}: {loop.setting.engine}", *loop.stepper.notes, *_restored(loop, keeper, processes, resume)]
        if not loop.done:
            loop.notices += notices
        loop.run(_hooks(keeper, processes, progress))
        if keeper is not None and processes.writes:
            keeper.networks(loop)
        return _trained(model, loop, notes)


def _loop(
    model: nn.Module, data: Dataset, plan: TrainingConfig, device: torch.device, engine: Engine, processes: Processes
) -> tuple[Loop, list[Notice]]:
    """Everything on the device, and what was noticed when the network was tried."""
    network = copy.deepcopy(model).to(device)
    _, dtype = home_of(network, data.train.images)
    notices = check_network(network.eval(), data, device, dtype)
    steps = plan.epochs * -(-len(data.train) // plan.batch_size)
    engine = engine.on(device, steps=steps, processes=processes.count)
    if engine.channels_last:
        network = network.to(memory_format=torch.channels_last)
    setting = Setting(data=data.to(device), plan=plan, engine=engine, processes=processes, dtype=dtype)
    return Loop(share_batch_norm(network, processes), setting), notices


def _keeper(
    checkpoints: Checkpoints | Path | str | None, model: nn.Module, data: Dataset, plan: TrainingConfig
) -> Keeper | None:
    if checkpoints is None:
        return None
    if not isinstance(checkpoints, Checkpoints):
        checkpoints = Checkpoints(folder=Path(checkpoints))
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    digest = hashlib.sha256(json.dumps([plan.digest, data.digest, shapes]).encode()).hexdigest()
    return Keeper(checkpoints=checkpoints, digest=digest, model_name=type(model).__name__, data=data, plan=plan)


def _restored(loop: Loop, keeper: Keeper | None, processes: Processes, resume: bool) -> Sequence[str]:
    """Go on from what is kept, in every process before any of them writes; says so."""
    if keeper is None:
        return ()
    if processes.writes:
        keeper.prepare(anew=not resume)
    processes.wait()
    snapshot = keeper.read()
    processes.wait()
    if snapshot is None:
        return ()
    restore(loop, snapshot)
    return (f"went on after {snapshot.epoch} epochs and {snapshot.batch} batches",)


def _hooks(keeper: Keeper | None, processes: Processes, progress: Report | None) -> Hooks:
    """Only the process that writes has any."""
    keeps = keeper is not None and processes.writes
    return Hooks(
        report=progress if progress is not None and processes.writes else _no_report,
        keep=keeper.keep if keeper is not None and keeps else _no_keeping,
        seconds=keeper.checkpoints.seconds if keeper is not None and keeps else float("inf"),
    )


def _trained(model: nn.Module, loop: Loop, notes: Sequence[str]) -> Trained:
    """The result in a fresh copy of the caller's model: on its device, in its layout, with its kinds of modules."""
    result = copy.deepcopy(model)
    result.load_state_dict(loop.result.state_dict())
    return Trained(
        model=result.eval(),
        best=loop.best,
        best_epoch=loop.best_epoch,
        selected_on=loop.plan.select_on if loop.plan.evaluate_every else None,
        history=tuple(loop.history),
        notices=tuple(loop.notices),
        notes=tuple(notes),
    )


@contextmanager
def _settings_kept(device: torch.device) -> Iterator[None]:
    """Put the global random state back at the end; meanwhile let cuDNN look for its fastest convolutions."""
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.backends.cudnn.benchmark = True
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark


def _no_report(progress: Progress) -> None:
    """Nobody listens."""


def _no_keeping(loop: Loop, ends_epoch: bool) -> None:
    """Nothing is kept."""

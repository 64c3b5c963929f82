"""`fit`: from a network, data and a configuration to the trained network, its best epoch and the history."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from surgery.data import Dataset
from surgery.torch_state import torch_state
from surgery.train.checkpointing import THREADS, Checkpoints, TrainingFolder, threads_of
from surgery.train.config import TrainingConfig
from surgery.train.diagnostics import check_network, few_images, fit_to_data
from surgery.train.engine import Engine, crashes_in_channels_last, find_device
from surgery.train.processes import Processes, device_of_process, join, share_batch_norm
from surgery.train.records import Notice, Report, Trained
from surgery.train.trainer import Hooks, Trainer


def fit(
    model: nn.Module,
    data: Dataset,
    config: TrainingConfig,
    *,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
    checkpoints: Checkpoints | Path | str | None = None,
    resume: bool = True,
    progress: Report | None = None,
) -> Trained:
    """Train a copy of `model` on `data`; the model itself, its mode and the global random state stay as they are.

    Everything random follows from the seed of `config`. `device`: by default a GPU if there is one. `engine`: how
    training computes, by default what is fast on the device; the notes of the result say what was chosen. With
    `checkpoints`, the state of the training is saved in that folder, with `last.safetensors` and `best.safetensors`,
    and a stopped training resumes from it: on a CPU it ends with the same bits as an uninterrupted one. `resume=False`
    starts over.

    `progress` is called after every batch (on a GPU about once a second), after every epoch and with every notice. An
    exception that it raises stops the training, after its state is saved.

    Under a launcher such as `torchrun`, every process calls this with the same arguments; each works on its share of
    every batch, and the first one writes and reports.

    Raises InputError where model, data and configuration do not fit together or the folder holds another training run,
    and DivergedError where the loss becomes infinite or nan.
    """
    home = device_of_process(find_device(device))
    processes = join(home)
    with torch_state(gradients=True), _global_settings(home):
        config = fit_to_data(config, data, processes.count)
        network = copy.deepcopy(model).to(home)
        dtype = next((tensor.dtype for tensor in network.parameters() if tensor.is_floating_point()), torch.float32)
        notices = check_network(network.eval(), data, home, dtype)
        steps = config.epochs * -(-len(data.train) // config.batch_size)
        engine = (engine or Engine()).on(home, steps=steps, processes=processes.count, dtype=dtype)
        notes = []
        if crashes_in_channels_last(network, few_images(data, home, dtype)):
            if engine.channels_last:
                notes.append("not in channels last: torch crashes in the gradient of narrow convolutions with a stride")
            # The caller's network may be in channels last already.
            engine, network = replace(engine, channels_last=False), network.to(memory_format=torch.contiguous_format)
        if engine.channels_last:
            network = network.to(memory_format=torch.channels_last)
        folder, hooks = None, Hooks()
        if checkpoints is not None:
            if not isinstance(checkpoints, Checkpoints):
                checkpoints = Checkpoints(folder=Path(checkpoints))
            folder = TrainingFolder(checkpoints=checkpoints, model=model, data=data, config=config)
        # The others train in step with the first process, and neither write nor report.
        if processes.writes:
            hooks = Hooks(
                report=progress or hooks.report,
                save=folder.save if folder is not None else hooks.save,
                seconds=folder.checkpoints.seconds if folder is not None else hooks.seconds,
            )
        trainer = Trainer(
            share_batch_norm(network, processes),
            data.to(home),
            config,
            engine=engine,
            processes=processes,
            hooks=hooks,
        )
        trainer.notices += notices
        trainer.untold += notices
        notes = [f"{home}: {engine}", *notes, *trainer.stepper.notes]
        if folder is not None and _resume(trainer, folder, processes, resume=resume):
            notes.append(f"resumed after {trainer.epoch} epochs and {trainer.batch} batches")
        trainer.run()
        if folder is not None and processes.writes:
            folder.save_networks(trainer)
        # The trained tensors go into a fresh copy of the caller's model: on its device, with its memory format and
        # without the shared batch norm.
        result = copy.deepcopy(model)
        result.load_state_dict(trainer.result.state_dict())
    return Trained(
        model=result.eval(),
        best=trainer.best,
        best_epoch=trainer.best_epoch,
        selected_on=config.select_on if config.evaluate_every else None,
        history=tuple(trainer.history),
        notices=tuple(trainer.notices),
        notes=tuple(notes),
    )


def _resume(trainer: Trainer, folder: TrainingFolder, processes: Processes, *, resume: bool) -> bool:
    """Load the saved state into `trainer`; returns whether there was one."""
    # Every process reads before any of them writes again: all have to start from the same batch.
    if processes.writes:
        folder.prepare(resume=resume)
    processes.wait()
    state = folder.read()
    processes.wait()
    if state is None:
        return False
    trainer.load_state_dict(state)
    threads, before = threads_of(trainer.device), state[THREADS]
    trainer.untold = []
    unfinished = trainer.epoch < trainer.config.epochs
    if unfinished and before is not None and threads is not None and before != threads:
        notice = Notice(
            epoch=trainer.epoch,
            kind="threads",
            text=f"resumed with another number of threads ({threads} instead of {before}): sums are taken in another"
            " order, so the last bits of the result differ from those of an uninterrupted training",
        )
        trainer.notices.append(notice)
        trainer.untold.append(notice)
    return True


@contextmanager
def _global_settings(device: torch.device) -> Iterator[None]:
    """Let cuDNN search for its fastest convolutions; restore that setting and the random state at the end."""
    benchmark = torch.backends.cudnn.benchmark
    # cuDNN measures the algorithms at the first batch of each size; nearly all batches have one size.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.backends.cudnn.benchmark = True
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark

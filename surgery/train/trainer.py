"""The loop over epochs and batches: the one object of training that changes, with a state to resume from."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.data import Dataset
from surgery.train.averaging import absorb, recompute_statistics
from surgery.train.batches import Batches, seed_for
from surgery.train.config import TrainingConfig
from surgery.train.diagnostics import notices_after
from surgery.train.engine import Engine
from surgery.train.metrics import EpochMetrics
from surgery.train.processes import Processes
from surgery.train.records import DivergedError, EpochRecord, Notice, Progress, Report
from surgery.train.step import Stepper
from surgery.train.validation import UNKNOWN, accuracies

SECONDS_BETWEEN_REPORTS = 1.0
"""On a GPU, where reading the loss makes the host wait; on a CPU there is a report after every batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Hooks:
    """The effects of a trainer outside of it.

    `report` receives progress. `save` receives the trainer, and whether an epoch has just ended: at the end of every
    epoch, every `seconds` within one, and before an exception of `report` leaves the trainer.
    """

    report: Report = lambda progress: None
    save: Callable[[Trainer, bool], None] = lambda trainer, ends_epoch: None
    seconds: float = math.inf


class Trainer:
    """Trains `network` in place. Between two batches its attributes decide everything that follows.

    `epoch` and `batch`: the number of finished ones. `taken`: the number of weights in the average. `seconds`: the time
    of the present epoch. `best`: a state dict on the CPU. `untold`: notices from before the first batch, which `run`
    reports. There is no state of a generator: everything random is a function of the seed of `config`, the epoch and
    the batch.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Dataset,
        config: TrainingConfig,
        *,
        engine: Engine,
        processes: Processes,
        hooks: Hooks | None = None,
    ) -> None:
        """`network` and `data` are on the same device. `engine` has every choice made, see `Engine.on`."""
        self.network, self.data, self.config = network, data, config
        self.engine, self.processes, self.hooks = engine, processes, hooks or Hooks()
        self.device = data.train.labels.device
        self.dtype = next(tensor.dtype for tensor in network.parameters() if tensor.is_floating_point())
        self.batches = Batches(
            split=data.train,
            batch_size=config.batch_size,
            augmentation=config.augmentation,
            attack=config.objective.attack,
            seed=config.seed,
            processes=processes,
            dtype=self.dtype,
            memory_format=torch.channels_last if engine.channels_last else torch.contiguous_format,
        )
        self.stepper = Stepper(
            network,
            self.batches.draw(0, 0, self.batches.order(0)).images,
            objective=config.objective,
            optimizer=config.optimizer,
            engine=engine,
            processes=processes,
        )
        self.average = None if config.averaging is None else copy.deepcopy(network).requires_grad_(False).eval()
        self.metrics = EpochMetrics(self.stepper.columns, self.batches.sizes, self.device)
        self.epoch = self.batch = self.taken = self.best_epoch = 0
        self.seconds, self.best_score = 0.0, -math.inf
        self.best: dict[str, Tensor] = {}
        self.history: list[EpochRecord] = []
        self.notices: list[Notice] = []
        self.untold: list[Notice] = []
        self._begun = self._told = self._saved = time.perf_counter()
        self._done_before = 0

    @property
    def done(self) -> int:
        """The number of finished steps."""
        return self.epoch * len(self.batches.sizes) + self.batch

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and kept, in evaluation mode: the average, once it has taken in weights."""
        return self.average if self.average is not None and self.taken else self.stepper.view

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on: tensors (not copied) by name, and data that JSON can hold."""
        # The velocity is only there for parameters that were moved, and not at all without momentum.
        velocity = {
            name: self.stepper.optimizer.state.get(parameter, {}).get(_VELOCITY)
            for name, parameter in self.network.named_parameters()
        }
        return {
            "network": _memory(self.network),
            "velocity": {name: tensor for name, tensor in velocity.items() if tensor is not None},
            "average": {} if self.average is None else _memory(self.average),
            "best": self.best,
            "rows": self.metrics.rows[: self.batch],
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "taken": self.taken,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "history": [asdict(record) for record in self.history],
            "notices": [asdict(notice) for notice in self.notices],
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a trainer of the same configuration, data and architecture."""
        # Copied into the present memory, which the evaluating view shares and which may be channels last.
        for name, tensor in _memory(self.network).items():
            tensor.copy_(state["network"][name])
        if self.average is not None:
            for name, tensor in _memory(self.average).items():
                tensor.copy_(state["average"][name])
        for name, tensor in state["velocity"].items():
            parameter = self.network.get_parameter(name)
            self.stepper.optimizer.state[parameter][_VELOCITY] = torch.empty_like(parameter).copy_(tensor)
        self.metrics.begin(state["rows"])
        self.epoch, self.batch, self.seconds = state["epoch"], state["batch"], state["seconds"]
        self.taken, self.best_epoch, self.best_score = state["taken"], state["best_epoch"], state["best_score"]
        self.best = dict(state["best"])
        self.history = [EpochRecord(**entry) for entry in state["history"]]
        self.notices = [Notice(**entry) for entry in state["notices"]]

    def run(self) -> None:
        """Train until the last epoch is finished."""
        self._begun = self._told = self._saved = time.perf_counter()
        self._done_before = self.done
        for notice in self.untold:
            self._tell(epoch=self.epoch + 1, notice=notice)
        while self.epoch < self.config.epochs:
            self._train_epoch()
            self._end_epoch()

    def _train_epoch(self) -> None:
        """Train on the batches of the present epoch that are left."""
        begun = time.perf_counter() - self.seconds  # the time before a stop counts as well
        order = self.batches.order(self.epoch)
        perturbation, averaging = self.config.objective.perturbation, self.config.averaging
        perturb = perturbation is not None and self.epoch + 1 >= perturbation.start
        while self.batch < len(self.batches.sizes):
            # Dropout draws from the global generator, which `fit` restores at its end; each process draws its own.
            torch.manual_seed(seed_for(self.config.seed, "network", self.epoch, self.batch, self.processes.rank))
            batch = self.batches.draw(self.epoch, self.batch, order)
            self.metrics.write(self.stepper.step(batch, rate=self._rate(self.done), perturb=perturb))
            self.batch += 1
            ends_epoch = self.batch == len(self.batches.sizes)
            if averaging is not None and self.epoch + 1 >= averaging.start and averaging.takes(ends_epoch=ends_epoch):
                assert self.average is not None, "a configuration with averaging has an average"
                absorb(self.average, self.network, averaging, taken=self.taken)
                self.taken += 1
            self.seconds = time.perf_counter() - begun
            self._pause()
        self._check_finite()  # which waits for the device: only now is the epoch over
        self.seconds = time.perf_counter() - begun

    def _rate(self, step: int) -> float:
        return self.config.schedule.at(step, batches=len(self.batches.sizes), epochs=self.config.epochs)

    def _pause(self) -> None:
        """Between two batches: check the loss, report and save, as often as each is due."""
        now = time.perf_counter()
        if self.device.type == "cpu" or now - self._told >= SECONDS_BETWEEN_REPORTS:
            self._told = now
            self._check_finite()
            self._tell(epoch=self.epoch + 1)
        if now - self._saved >= self.hooks.seconds:
            self._check_finite()
            self._save(ends_epoch=False)

    def _check_finite(self) -> None:
        wrong = self.metrics.first_not_finite()
        if wrong is not None:
            self._fail(f"batch {wrong[0]} of {len(self.batches.sizes)}: the loss is {wrong[1]}")

    def _fail(self, what: str) -> None:
        raise DivergedError(
            f"epoch {self.epoch + 1}, {what}",
            hint="try a lower learning rate, or one that grows at first (one-cycle); in bfloat16, try float32."
            f" The history has the {len(self.history)} epochs before",
            history=tuple(self.history),
        )

    def _end_epoch(self) -> None:
        """Evaluate, record, select the best epoch, save and report."""
        epoch, evaluates = self.epoch + 1, self.config.evaluates(self.epoch + 1)
        if evaluates or epoch == self.config.epochs:
            self._recompute_statistics()
        found = UNKNOWN
        if evaluates:
            if not all(bool(tensor.isfinite().all()) for tensor in self.result.parameters()):
                self._fail("after its last batch: the weights are not finite")
            found = accuracies(
                self.result,
                self.data.splits[self.config.select_on],
                self.config,
                engine=self.engine,
                dtype=self.dtype,
                processes=self.processes,
                progress=lambda done, total: self._tell(epoch=epoch, evaluated=done / total),
            )
        means = self.metrics.means()
        natural, robust = (None if math.isnan(mean) else mean for mean in (means.pop("natural"), means.pop("robust")))
        record = EpochRecord(
            epoch=epoch,
            loss=means.pop("loss"),
            train_natural=natural,
            train_robust=robust,
            parts=means,
            natural=found.natural,
            robust=found.robust,
            learning_rate=self._rate(self.done - 1),
            seconds=self.seconds,
        )
        self.history.append(record)
        last = self.config.evaluate_every == 0 and epoch == self.config.epochs
        if last or (found.score is not None and found.score > self.best_score):
            self.best_epoch = epoch
            self.best_score = self.best_score if found.score is None else found.score
            # Cloned, for the next step changes the weights in place.
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.result.state_dict().items()}
        images = len(self.data.splits[self.config.select_on])
        noticed = notices_after(self.config, self.history, images=images, classes=self.data.num_classes)
        # A sign usually remains in all later epochs; it is reported once.
        fresh = [notice for notice in noticed if all(notice.kind != other.kind for other in self.notices)]
        self.notices += fresh
        self.epoch, self.batch, self.seconds = epoch, 0, 0.0
        # Saved before it is reported: whoever stops training in the report finds the epoch finished.
        self._save(ends_epoch=True)
        self._tell(epoch=epoch, record=record)
        for notice in fresh:
            self._tell(epoch=epoch, notice=notice)
        self.metrics.begin()

    def _recompute_statistics(self) -> None:
        """Compute the batch norm statistics of the average from training batches, attacked as in training."""
        averaging, method = self.config.averaging, self.config.objective.method
        if averaging is None or not averaging.batches or self.average is None or not self.taken:
            return
        order = self.batches.order(self.epoch)
        shown: list[Tensor] = []
        # All batches are attacked first: the attack is on the trained network, the statistics are those of the average.
        for number in range(min(averaging.batches, len(self.batches.sizes))):
            batch = self.batches.draw(self.epoch, number, order)
            shown += [batch.images] if method.clean else []
            shown += [self.stepper.attacked(batch)] if method.adversarial else []
        recompute_statistics(self.average, shown, autocast=self.engine.autocast(self.device))

    def _save(self, *, ends_epoch: bool) -> None:
        self._saved = time.perf_counter()
        self.hooks.save(self, ends_epoch)

    def _tell(
        self,
        *,
        epoch: int,
        record: EpochRecord | None = None,
        notice: Notice | None = None,
        evaluated: float | None = None,
    ) -> None:
        pace = (time.perf_counter() - self._begun) / max(1, self.done - self._done_before)
        progress = Progress(
            epoch=epoch,
            epochs=self.config.epochs,
            batch=self.metrics.written,
            batches=len(self.batches.sizes),
            loss=self.metrics.loss,
            seconds_left=(self.config.epochs * len(self.batches.sizes) - self.done) * pace,
            record=record,
            notice=notice,
            evaluated=evaluated,
        )
        try:
            self.hooks.report(progress)
        except BaseException:
            # An exception here stops training between two batches or in an evaluation: saved, no step is repeated.
            self._save(ends_epoch=False)
            raise


_VELOCITY = "momentum_buffer"
"""The name that torch's SGD uses."""


def _memory(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, among them the buffers that a state dict leaves out."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}

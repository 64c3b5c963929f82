"""The loop over epochs and batches: the one object of training that changes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.data import Dataset
from surgery.train.adversary import evaluating_view
from surgery.train.averaging import absorb
from surgery.train.batches import Feed
from surgery.train.config import TrainingConfig
from surgery.train.diagnostics import notices_after
from surgery.train.engine import Engine
from surgery.train.metrics import Tally
from surgery.train.processes import Processes
from surgery.train.records import DivergedError, EpochRecord, Notice, Progress, Report
from surgery.train.seeds import seed_for
from surgery.train.settling import settle
from surgery.train.step import Stepper
from surgery.train.validation import UNKNOWN, Accuracies, accuracies

SECONDS_BETWEEN_REPORTS = 1.0
"""On a GPU, where looking at the loss makes the host wait; on a CPU there is a report after every batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What a training run is made of, besides the network. `dtype` is that of the network."""

    data: Dataset
    plan: TrainingConfig
    engine: Engine
    processes: Processes
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        return self.data.train.labels.device

    @property
    def feed(self) -> Feed:
        return Feed(
            split=self.data.train,
            batch_size=self.plan.batch_size,
            augmentation=self.plan.augmentation,
            attack=self.plan.objective.attack,
            seed=self.plan.seed,
            processes=self.processes,
            dtype=self.dtype,
            memory_format=torch.channels_last if self.engine.channels_last else torch.contiguous_format,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Hooks:
    """What happens outside of the loop: `report` hears of progress; `keep` writes the loop's state, at the end of every
    epoch (it is told so) and every `seconds` within one.
    """

    report: Report
    keep: Callable[[Loop, bool], None]
    seconds: float


class Loop:
    """Trains `network`, which it changes. Between two batches its attributes say all that goes on depends on.

    `epoch` and `batch` are how many are done; `taken` is how many weights the average has; `seconds` is what the
    present epoch has taken; `best` is a state dict.
    """

    def __init__(self, network: nn.Module, setting: Setting) -> None:
        self.network, self.setting, self.plan = network, setting, setting.plan
        self.feed = setting.feed
        self.batches = len(self.feed.sizes)
        self.view = evaluating_view(network)
        self.average = None if self.plan.averaging is None else copy.deepcopy(self.view)
        self.stepper = Stepper(
            network,
            self.view,
            self.feed.batch(0, 0, self.feed.order(0)).images,
            objective=self.plan.objective,
            optimizer=self.plan.optimizer,
            engine=setting.engine,
            processes=setting.processes,
        )
        self.tally = Tally(self.stepper.columns, self.feed.sizes, setting.device)
        self.epoch = self.batch = self.taken = self.best_epoch = 0
        self.seconds, self.best_score = 0.0, -math.inf
        self.best: dict[str, Tensor] = {}
        self.history: list[EpochRecord] = []
        self.notices: list[Notice] = []
        self._begun = self._told = self._kept = time.perf_counter()
        self._before = 0

    @property
    def done(self) -> int:
        """How many steps are done."""
        return self.epoch * self.batches + self.batch

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and kept, in evaluation mode: the average, once it has taken weights in."""
        return self.average if self.average is not None and self.taken else self.view

    def run(self, hooks: Hooks) -> None:
        """Train until the last epoch of the plan is done."""
        self._begun = self._told = self._kept = time.perf_counter()
        self._before = self.done
        for notice in self.notices if self.done == 0 else ():
            self._tell(hooks, epoch=1, notice=notice)
        while self.epoch < self.plan.epochs:
            self._train(hooks)
            self._finish(hooks)

    def _train(self, hooks: Hooks) -> None:
        """The batches of the present epoch that are not done yet."""
        begun = time.perf_counter() - self.seconds
        order = self.feed.order(self.epoch)
        while self.batch < self.batches:
            self.tally.write(self._step(order))
            self.batch += 1
            self._take()
            self.seconds = time.perf_counter() - begun
            self._pause(hooks)
        self._check_finite()  # which waits for the device
        self.seconds = time.perf_counter() - begun

    def _step(self, order: Tensor) -> Tensor:
        # Dropout draws from the global generator, which `fit` puts back: it too becomes a function of the place.
        torch.manual_seed(seed_for(self.plan.seed, "network", self.epoch, self.batch, self.setting.processes.rank))
        batch = self.feed.batch(self.epoch, self.batch, order)
        move = self.plan.objective.perturbation
        return self.stepper.step(
            batch, rate=self._rate(self.done), perturb=move is not None and self.epoch + 1 >= move.start
        )

    def _rate(self, step: int) -> float:
        return self.plan.schedule.at(step, batches=self.batches, epochs=self.plan.epochs)

    def _take(self) -> None:
        """Take the weights into the average, where the plan wants that now."""
        averaging = self.plan.averaging
        if averaging is None or self.average is None or self.epoch + 1 < averaging.start:
            return
        share = averaging.share(self.taken, ends_epoch=self.batch == self.batches)
        if share is not None:
            absorb(self.average, self.network, share)
            self.taken += 1

    def _pause(self, hooks: Hooks) -> None:
        """Between two batches: look, report and keep, as often as is due."""
        now = time.perf_counter()
        if self.setting.device.type == "cpu" or now - self._told >= SECONDS_BETWEEN_REPORTS:
            self._told = now
            self._check_finite()
            self._tell(hooks, epoch=self.epoch + 1)
        if now - self._kept >= hooks.seconds:
            self._check_finite()
            self._keep(hooks, ends_epoch=False)

    def _check_finite(self) -> None:
        wrong = self.tally.first_not_finite()
        if wrong is not None:
            self._diverged(f"batch {wrong[0]} of {self.batches}: the loss is {wrong[1]}")

    def _diverged(self, what: str) -> None:
        raise DivergedError(
            f"epoch {self.epoch + 1}, {what}",
            hint="try a lower learning rate, or one that grows at first (one-cycle); in bfloat16, try float32."
            f" The history has the {len(self.history)} epochs before",
            history=tuple(self.history),
        )

    def _finish(self, hooks: Hooks) -> None:
        """The end of an epoch: evaluate, record, choose, keep, tell."""
        epoch, evaluates = self.epoch + 1, self.plan.evaluates(self.epoch + 1)
        if evaluates or epoch == self.plan.epochs:
            self._settle()
        found = self._evaluate(hooks) if evaluates else UNKNOWN
        self.history.append(self._record(found))
        self._choose(epoch, found)
        fresh = self._notice()
        self.epoch, self.batch, self.seconds = epoch, 0, 0.0
        self._keep(hooks, ends_epoch=True)
        self._tell(hooks, epoch=epoch, record=self.history[-1])
        for notice in fresh:
            self._tell(hooks, epoch=epoch, notice=notice)
        self.tally.begin()

    def _settle(self) -> None:
        averaging = self.plan.averaging
        if averaging is not None and averaging.batches and self.average is not None and self.taken:
            settle(self.average, self.stepper, self.feed, epoch=self.epoch, batches=averaging.batches)

    def _evaluate(self, hooks: Hooks) -> Accuracies:
        if not all(bool(tensor.isfinite().all()) for tensor in self.result.parameters()):
            self._diverged("after its last batch: the weights are not finite")
        setting = self.setting
        return accuracies(
            self.result,
            setting.data.splits[self.plan.select_on],
            self.plan,
            engine=setting.engine,
            dtype=setting.dtype,
            processes=setting.processes,
            progress=lambda done, total: self._tell(hooks, epoch=self.epoch + 1, evaluated=done / total),
        )

    def _record(self, found: Accuracies) -> EpochRecord:
        means = self.tally.means()
        return EpochRecord(
            epoch=self.epoch + 1,
            loss=means.pop("loss"),
            train_natural=_known(means.pop("natural")),
            train_robust=_known(means.pop("robust")),
            parts=means,
            natural=found.natural,
            robust=found.robust,
            learning_rate=self._rate(self.done - 1),
            seconds=self.seconds,
        )

    def _choose(self, epoch: int, found: Accuracies) -> None:
        """Remember this epoch's weights where they are the best so far; the last ones where nothing is evaluated."""
        if self.plan.evaluate_every == 0:
            best = epoch == self.plan.epochs
        else:
            best = found.score is not None and found.score > self.best_score
        if best:
            self.best_epoch = epoch
            self.best_score = self.best_score if found.score is None else found.score
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.result.state_dict().items()}

    def _notice(self) -> list[Notice]:
        """Notices of kinds that have not been given before."""
        data = self.setting.data
        images = len(data.splits[self.plan.select_on])
        found = notices_after(self.plan, self.history, images=images, classes=data.num_classes)
        fresh = [notice for notice in found if all(notice.kind != other.kind for other in self.notices)]
        self.notices += fresh
        return fresh

    def _keep(self, hooks: Hooks, *, ends_epoch: bool) -> None:
        self._kept = time.perf_counter()
        hooks.keep(self, ends_epoch)

    def _tell(
        self,
        hooks: Hooks,
        *,
        epoch: int,
        record: EpochRecord | None = None,
        notice: Notice | None = None,
        evaluated: float | None = None,
    ) -> None:
        pace = (time.perf_counter() - self._begun) / max(1, self.done - self._before)
        progress = Progress(
            epoch=epoch,
            epochs=self.plan.epochs,
            batch=self.tally.written,
            batches=self.batches,
            loss=self.tally.loss,
            seconds_left=(self.plan.epochs * self.batches - self.done) * pace,
            record=record,
            notice=notice,
            evaluated=evaluated,
        )
        try:
            hooks.report(progress)
        except BaseException:
            # Whoever raises here stops the training, between two batches or in an evaluation: no step has to be lost.
            self._keep(hooks, ends_epoch=False)
            raise


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value

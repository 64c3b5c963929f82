"""What goes wrong in adversarial training without an error: found in the history."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surgery.train.config import TrainingConfig
from surgery.train.records import EpochRecord, Notice

COLLAPSED = 0.2
"""Robust accuracy under the evaluation's attack, as a share of that on the training batches, under which training only
works against its own attack."""
DROP = 0.03
"""How far robust accuracy has to fall below its best, at least, to be called falling; and how far that on the training
batches has to rise meanwhile to be called overfitting."""
ERRORS = 2.0
"""And how many standard errors of a difference of two accuracies."""


def notices_after(plan: TrainingConfig, history: Sequence[EpochRecord], *, images: int, classes: int) -> list[Notice]:
    """What there is to say about the last epoch of `history`, evaluated on so many images of so many classes."""
    if not history or history[-1].robust is None or plan.objective.attack is None:
        return []
    found = (_collapse(plan, history[-1], classes), _falling(plan, history, images))
    return [notice for notice in found if notice is not None]


def _collapse(plan: TrainingConfig, last: EpochRecord, classes: int) -> Notice | None:
    """Catastrophic overfitting (Wong et al. 2020): right under the attack of training, wrong under a longer one."""
    attack, selection = plan.objective.attack, plan.selection
    if attack is None or selection is None or last.robust is None or last.train_robust is None:
        return None
    comparable = selection.norm == attack.norm and selection.epsilon <= attack.epsilon * (1 + 1e-6)
    learnt = last.train_robust > 2 / classes
    if not comparable or not learnt or last.robust >= COLLAPSED * last.train_robust:
        return None
    return Notice(
        epoch=last.epoch,
        kind="catastrophic-overfitting",
        text=f"{last.train_robust:.1%} are right under the attack of training ({attack.steps} steps of"
        f" {attack.step_size:.4g}), {last.robust:.1%} under {selection.steps} steps: training defends against its own"
        " attack only. More or smaller steps, or a random start, help",
    )


def _falling(plan: TrainingConfig, history: Sequence[EpochRecord], images: int) -> Notice | None:
    """Robust overfitting (Rice et al. 2020): robust accuracy falls while that on the training batches rises.

    Where it does not rise, the accuracy goes up and down; that matters where training ends so.
    """
    last = history[-1]
    seen = [record for record in history if record.robust is not None]
    best = max(seen, key=lambda record: record.robust or 0.0)
    if last.robust is None or best.robust is None:
        return None
    drop = best.robust - last.robust
    error = math.sqrt(2 * best.robust * (1 - best.robust) / images)
    if drop < max(DROP, ERRORS * error):
        return None
    fell = f"robust accuracy is {last.robust:.1%}, after {best.robust:.1%} in epoch {best.epoch}"
    if _rose(best, last):
        return Notice(
            epoch=last.epoch,
            kind="robust-overfitting",
            text=f"{fell}: robust overfitting. The best epoch is kept; fewer epochs, weight averaging or adversarial"
            " weight perturbation help",
        )
    if last.epoch < plan.epochs:
        return None
    return Notice(
        epoch=last.epoch,
        kind="unsteady",
        text=f"{fell}, and on the training batches it has not risen since: training ends unsteadily. The best epoch is"
        " kept; a learning rate that falls lower or weight averaging help",
    )


def _rose(first: EpochRecord, last: EpochRecord) -> bool:
    """Whether robust accuracy on the training batches rose; yes where nobody looked."""
    if first.train_robust is None or last.train_robust is None:
        return True
    return last.train_robust - first.train_robust >= DROP

"""The statistics of batch norm for averaged weights, which no forward of training ever saw."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surgery.train.averaging import counting_statistics
from surgery.train.batches import Feed
from surgery.train.step import Stepper


def settle(average: nn.Module, stepper: Stepper, feed: Feed, *, epoch: int, batches: int) -> None:
    """Compute the statistics of `average` from the first `batches` batches of an epoch, attacked as in training."""
    # All of them are attacked first: the attack is on the trained network, and has nothing to do with the counting.
    shown = _shown(stepper, feed, epoch, min(batches, len(feed.sizes)))
    with counting_statistics(average), torch.no_grad():
        for images in shown:
            with stepper.engine.autocast(images.device):
                average(images)


def _shown(stepper: Stepper, feed: Feed, epoch: int, batches: int) -> list[Tensor]:
    """What the forwards of training see: clean images, adversarial ones, or both."""
    order = feed.order(epoch)
    method = stepper.objective.method
    shown: list[Tensor] = []
    for number in range(batches):
        batch = feed.batch(epoch, number, order)
        shown += [batch.images] if method.clean else []
        shown += [stepper.attacked(batch)] if method.adversarial else []
    return shown

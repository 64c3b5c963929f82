"""One batch under one attack: restarts, images that leave, and the verification of what the search finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.attack.attack import Attack
from surgery.attack.engine import Victim
from surgery.attack.losses import LOSSES
from surgery.attack.noise import image_keys
from surgery.attack.search import pursue
from surgery.attack.starts import own_start


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images `(batch, channels, height, width)` in [0, 1], and what is asked about them.

    `labels` `(batch,)`. `targets` `(batch, tries)`: the classes that a targeted loss moves towards, one after the
    other; None where it moves away from the label. `wanted` `(batch,)`: the class that the attack has to reach; None if
    any other than the label will do. `keys` `(batch,)`: where random numbers come from.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor | None
    wanted: Tensor | None
    keys: Tensor

    @staticmethod
    def of(
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        wanted: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Batch:
        keys = image_keys(images) if keys is None else keys
        return Batch(images=images, labels=labels, targets=targets, wanted=wanted, keys=keys)

    def rows(self, rows: Tensor) -> Batch:
        """The batch of some of the images: numbers or a mask."""
        return Batch(
            images=self.images[rows],
            labels=self.labels[rows],
            targets=None if self.targets is None else self.targets[rows],
            wanted=None if self.wanted is None else self.wanted[rows],
            keys=self.keys[rows],
        )

    def reached(self, predictions: Tensor) -> Tensor:
        """Whether the attack has what it wants, `(batch,)`, where these classes are predicted."""
        return predictions != self.labels if self.wanted is None else predictions == self.wanted

    def loss(self, logits: Tensor, attack: Attack, number: int) -> Tensor:
        """The loss `(batch,)` of `attack`, towards target number `number` if there are targets."""
        loss = LOSSES[attack.loss]
        if self.targets is None:
            return loss.untargeted(logits, self.labels)
        return loss.targeted(logits, self.labels, self.targets[:, number])

    def tries(self, attack: Attack) -> Iterator[tuple[int, int]]:
        """The numbers of target and restart of every search."""
        targets = 1 if self.targets is None else self.targets.shape[1]
        return itertools.product(range(targets), range(attack.restarts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What an attack made of a batch: images and the classes `(batch,)` that the model itself gives them."""

    images: Tensor
    predictions: Tensor


def attack_batch(victim: Victim, batch: Batch, attack: Attack, *, seed: int, before: Tensor | None = None) -> Found:
    """Attack a batch, with all targets and restarts.

    With `attack.early_stop`, images leave when the model itself, in float32, gives them what the attack wants: as they
    are (`before` `(batch,)` has the model's classes, if they are known), at any iterate that the search takes for a
    success, or at the last. Without, it is the last iterate that counts, of the first search that succeeds with it.
    """
    predictions = victim.predict(batch.images) if before is None else before.clone()
    images = batch.images.clone()
    done = batch.reached(predictions) if attack.early_stop else torch.zeros_like(predictions, dtype=torch.bool)
    for number, restart in batch.tries(attack):
        rows = (~done).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        part = batch.rows(rows)
        found = _once(victim, part, attack, number, seed=seed, restart=restart)
        images[rows], predictions[rows] = found.images, found.predictions
        done[rows] = part.reached(found.predictions)
    return Found(images=images, predictions=predictions)


def _once(victim: Victim, batch: Batch, attack: Attack, number: int, *, seed: int, restart: int) -> Found:
    """One search, and the model's own classes for what comes out of it."""
    predictions = torch.full_like(batch.labels, _UNKNOWN)

    def probe(iterates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        part = batch.rows(rows)
        logits = victim.quick(iterates)
        losses = part.loss(logits, attack, number)
        if not attack.early_stop:
            return losses, None
        suspects = part.reached(logits.detach().argmax(1)).nonzero().squeeze(1)
        classes = victim.predict(iterates.detach()[suspects]) if len(suspects) else suspects
        real = part.rows(suspects).reached(classes)
        predictions[rows[suspects[real]]] = classes[real]
        return losses, predictions[rows] != _UNKNOWN

    start = own_start(batch.images, attack, batch.keys, seed=seed, restart=restart)
    images = pursue(probe, batch.images, attack, start=start)
    last = predictions == _UNKNOWN
    if bool(last.any()):
        predictions[last] = victim.predict(images[last])
    return Found(images=images, predictions=predictions)


_UNKNOWN = -1
"""The class of an image that the model has not been asked about."""

"""Batches as functions of epoch and number: order, augmentation and the starts of attacks follow from the seed.

Nothing random is remembered between two batches, so a resumed run draws the same numbers without any saved generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.attack import Attack, random_start
from surgery.data import Augmentation, Split, images_as_float
from surgery.train.processes import Processes


def seed_for(seed: int, purpose: str, *place: int) -> int:
    """A seed for one purpose at one place (epoch, batch) of a training run, from the seed of the whole run."""
    text = "/".join(map(str, (seed, purpose, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """This process's share of a batch of `whole` images: `images` and `start` `(share, C, H, W)`, `labels` `(share,)`.

    `start`: the images at which the attack starts; the images themselves where there is no attack.
    """

    images: Tensor
    labels: Tensor
    start: Tensor
    whole: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """The batches of a training run, made on the device of the data.

    `dtype` and `memory_format` are those of the network.
    """

    split: Split
    batch_size: int
    augmentation: Augmentation | None
    attack: Attack | None
    seed: int
    processes: Processes
    dtype: torch.dtype
    memory_format: torch.memory_format

    @property
    def sizes(self) -> list[int]:
        """The number of images of each batch of an epoch.

        A last batch of a single image is left out: batch norm has no variance for it.
        """
        full, rest = divmod(len(self.split), self.batch_size)
        return [self.batch_size] * full + [rest] * (rest > 1 or full == 0)

    def order(self, epoch: int) -> Tensor:
        """The indices of the images of an epoch in the order of training, `(n,)`."""
        # Drawn on the CPU, so that the order is the same on every device.
        generator = torch.Generator().manual_seed(seed_for(self.seed, "order", epoch))
        return torch.randperm(len(self.split), generator=generator).to(self.split.labels.device)

    def draw(self, epoch: int, number: int, order: Tensor) -> Batch:
        """Batch `number`, from zero, of an epoch with that `order`."""
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        generator = torch.Generator(self.split.labels.device)
        generator.manual_seed(seed_for(self.seed, "images", epoch, number))
        # Every process draws for the whole batch, in this order (augmentation, start), and then takes its share: the
        # shares together are the batch of a single process.
        images = self.split.images[rows]
        images = images if self.augmentation is None else self.augmentation(images, generator)
        images = images_as_float(images).to(self.dtype)
        start = images if self.attack is None else random_start(images, self.attack, generator)
        return Batch(
            images=self.processes.share(images).to(memory_format=self.memory_format),
            labels=self.processes.share(self.split.labels[rows]),
            start=self.processes.share(start).to(memory_format=self.memory_format),
            whole=len(rows),
        )

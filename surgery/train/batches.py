"""Batches as a function of epoch and number: order, augmentation and starts of attacks come from the seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.attack import Attack, random_start
from surgery.data import Augmentation, Split, images_as_float
from surgery.train.processes import Processes
from surgery.train.seeds import generator_for


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """This process's share of a batch of `whole` images: `images` and `start` `(share, C, H, W)`, `labels` `(share,)`.

    `start`: where the attack starts; the images themselves where there is none.
    """

    images: Tensor
    labels: Tensor
    start: Tensor
    whole: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Feed:
    """The batches of a training run, made where the images are.

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
        """How many images each batch of an epoch has.

        A single image that would be left over is left out: batch norm cannot use it.
        """
        full, rest = divmod(len(self.split), self.batch_size)
        return [self.batch_size] * full + [rest] * (rest > 1 or full == 0)

    def order(self, epoch: int) -> Tensor:
        """The images of an epoch in the order in which they come, `(n,)`."""
        device = self.split.labels.device
        # Drawn on the CPU, so that the order is the same on every device.
        return torch.randperm(len(self.split), generator=generator_for(_CPU, self.seed, "order", epoch)).to(device)

    def batch(self, epoch: int, number: int, order: Tensor) -> Batch:
        """Batch `number`, from zero, of an epoch with that `order`."""
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        generator = generator_for(self.split.labels.device, self.seed, "images", epoch, number)
        images = self.split.images[rows]
        images = images if self.augmentation is None else self.augmentation(images, generator)
        images = images_as_float(images).to(self.dtype)
        start = images if self.attack is None else random_start(images, self.attack, generator)
        return Batch(
            images=self._own(images),
            labels=self.processes.share(self.split.labels[rows]),
            start=self._own(start),
            whole=len(rows),
        )

    def _own(self, images: Tensor) -> Tensor:
        return self.processes.share(images).to(memory_format=self.memory_format)


_CPU = torch.device("cpu")

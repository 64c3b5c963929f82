"""What is attacked: images in [0, 1] and their labels, out of tensors, a split or a data set, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.data import Dataset, Split
from surgery.errors import InputError

Data = tuple[Tensor, Tensor] | Split | Dataset
"""Images `(n, channels, height, width)`, floating in [0, 1] or uint8, with labels `(n,)`; a split; or a data set, of
which the test images are meant.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images `(n, channels, height, width)`, uint8 or floating in [0, 1], and labels `(n,)`, int64.

    `num_classes`: of a data set that says so, else None.
    """

    images: Tensor
    labels: Tensor
    num_classes: int | None

    @staticmethod
    def of(data: Data) -> Samples:
        """Raises InputError for images that are not in [0, 1], naming the largest value, and for unusable labels."""
        if isinstance(data, Dataset):
            return Samples(images=data.test.images, labels=data.test.labels, num_classes=data.num_classes)
        if isinstance(data, Split):
            return Samples(images=data.images, labels=data.labels, num_classes=None)
        if not isinstance(data, (tuple, list)) or len(data) != 2 or not all(isinstance(item, Tensor) for item in data):
            raise InputError(f"data is a pair of tensors, a Split or a Dataset; got {type(data).__name__}")
        images, labels = data
        check_images(images)
        _check_labels(labels, len(images))
        return Samples(images=images, labels=labels.long(), num_classes=None)

    def __len__(self) -> int:
        return len(self.labels)

    def between(self, first: int, last: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images `(batch, ...)` as float32 in [0, 1] and labels `(batch,)`, from number `first` to before `last`."""
        return self._on(slice(first, last), device)

    def spread(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """At most `count` images and labels, evenly spread, as classes may come one after the other."""
        numbers = torch.linspace(0, len(self) - 1, min(count, len(self))).round().long()
        return self._on(numbers.to(self.labels.device), device)

    def _on(self, numbers: slice | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        images = self.images[numbers].to(device)
        return as_floats(images), self.labels[numbers].to(device)

    def check_outputs(self, logits: Tensor) -> int:
        """The number of classes of a model with these outputs.

        Raises InputError where they are not `(batch, K)`, or K does not fit the data or the labels.
        """
        if logits.dim() != 2 or logits.shape[1] < 2:
            raise InputError(f"the model's outputs have shape {tuple(logits.shape)}; (batch, classes) is expected")
        classes = logits.shape[1]
        if self.num_classes is not None and classes != self.num_classes:
            raise InputError(f"the model has {classes} outputs, the data {self.num_classes} classes")
        largest = int(self.labels.max())
        if largest >= classes:
            where = int((self.labels == largest).nonzero()[0])
            raise InputError(
                f"image {where} has label {largest}, but the model has {classes} outputs, 0 to {classes - 1}"
            )
        return classes


def as_floats(images: Tensor) -> Tensor:
    """uint8 images as value / 255, floating ones as they are, in float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def check_images(images: Tensor) -> None:
    """Raises InputError, naming the value, for images that are neither uint8 nor in [0, 1]."""
    if images.dim() < 2 or not len(images):
        raise InputError(f"images have shape {tuple(images.shape)}; (n, channels, height, width) is expected")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise InputError(f"images are floating in [0, 1], or uint8; got {images.dtype}")
    smallest, largest = float(images.min()), float(images.max())
    if smallest != smallest:
        raise InputError("some pixels are not a number")
    if largest > 1:
        raise InputError(
            f"pixels run from 0 to 1, but the largest is {largest:g}",
            hint="divide by 255, or hand over uint8" if largest > 2 else "normalisation belongs into the model",
        )
    if smallest < 0:
        raise InputError(
            f"pixels run from 0 to 1, but the smallest is {smallest:g}", hint="normalisation belongs into the model"
        )


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels are whole numbers; got {labels.dtype}")
    if labels.shape != (count,):
        raise InputError(f"labels are one for each of the {count} images; got shape {tuple(labels.shape)}")
    if int(labels.min()) < 0:
        where = int((labels < 0).nonzero()[0])
        raise InputError(f"image {where} has label {int(labels[where])}; labels count from 0")

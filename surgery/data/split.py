"""`Split`: images and their labels, held as they are stored, in eight bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from surgery.data.checks import whole
from surgery.errors import InputError


def images_as_float(images: Tensor) -> Tensor:
    """What networks take: uint8 images of any shape as float32 in [0, 1], value / 255.

    Raises InputError for images of another type, which may have been divided already.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"images are held as uint8, 0 to 255; got {images.dtype}")
    return images.float().div_(255)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The images of one split and their labels.

    `images`: `(n, channels, height, width)`, uint8. `labels`: `(n,)`, int64, on the same device.

    Raises InputError where types, shapes or devices do not fit together.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise InputError(
                f"images are uint8 of shape (n, channels, height, width); got {images.dtype} {tuple(images.shape)}"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise InputError(
                f"labels are int64, one for each of the {len(images)} images; got {labels.dtype} {tuple(labels.shape)}"
            )
        if labels.device != images.device:
            raise InputError(f"the labels are on {labels.device}, the images on {images.device}")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        return Split(images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor | Sequence[int] | slice) -> Split:
        """The images at `indices`, in that order: whole numbers, a mask `(n,)`, or a slice.

        Raises InputError for an index that is out of range, and for a mask of another length.
        """
        if not isinstance(indices, slice):
            indices = _indices(indices, len(self)).to(self.labels.device)
        return Split(images=self.images[indices], labels=self.labels[indices])

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in order, the last one as short as it comes.

        Yields images `(batch, channels, height, width)` as float32 in [0, 1] and labels `(batch,)`.
        """
        whole(batch_size, "batch_size", least=1)
        for images, labels in zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True):
            if len(labels):  # the split of nothing is one empty batch
                yield images_as_float(images), labels

    @cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal digits, of shape, images and labels; the same on every device."""
        result = hashlib.sha256(f"uint8 {tuple(self.images.shape)}".encode())
        for images in self.images.split(1024):
            result.update(images.cpu().contiguous().numpy().tobytes())
        result.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        return result.hexdigest()


def _indices(indices: Tensor | Sequence[int], length: int) -> Tensor:
    chosen = torch.as_tensor(indices)
    if chosen.numel() == 0:
        return torch.zeros(0, dtype=torch.int64)
    if chosen.dtype == torch.bool:
        if chosen.shape != (length,):
            raise InputError(f"a mask has one entry for each of the {length} images; got shape {tuple(chosen.shape)}")
        return chosen
    if chosen.is_floating_point() or chosen.dim() != 1:
        raise InputError(f"indices are a list of whole numbers; got {chosen.dtype} {tuple(chosen.shape)}")
    low, high = int(chosen.min()), int(chosen.max())
    if low < 0 or high >= length:
        raise InputError(f"index {low if low < 0 else high} is none of the {length} images, 0 to {length - 1}")
    return chosen

"""`Dataset` and its three `Split`s: images and labels, the names of the classes, and their known superclasses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import shorten

import torch
from torch import Tensor

from surgery.data.checks import whole
from surgery.errors import InputError, suggest
from surgery.hierarchy import Hierarchy


def images_as_float(images: Tensor) -> Tensor:
    """The input of networks: uint8 images of any shape as float32 in [0, 1], value / 255.

    Raises InputError for images of another type, which may have been divided already.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"images are held as uint8, 0 to 255; got {images.dtype}")
    return images.float().div_(255)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The images of one split and their labels, in eight bits as they are stored.

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

    def __repr__(self) -> str:
        return f"Split of {len(self)} images: {_images_in_words(self.images)}"

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        return Split(images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor | Sequence[int] | slice) -> Split:
        """The images at `indices` in their order: whole numbers, a mask `(n,)`, or a slice.

        Raises InputError for an index that is out of range, and for a mask of another length.
        """
        if not isinstance(indices, slice):
            indices = _indices(indices, len(self)).to(self.labels.device)
        return Split(images=self.images[indices], labels=self.labels[indices])

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in order; the last one may be shorter.

        Yields images `(batch, channels, height, width)` as float32 in [0, 1] and labels `(batch,)`.
        """
        whole(batch_size, "batch_size", least=1)
        for images, labels in zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True):
            if len(labels):  # torch splits no images into one empty batch
                yield images_as_float(images), labels

    @cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal digits, of shape, images and labels; the same on every device."""
        result = hashlib.sha256(f"uint8 {tuple(self.images.shape)}".encode())
        # In parts, because a copy of all images would double the memory; "<i8" is the same on every machine.
        for images in self.images.split(1024):
            result.update(images.cpu().contiguous().numpy().tobytes())
        result.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        return result.hexdigest()


def _images_in_words(images: Tensor) -> str:
    return f"uint8 {tuple(images.shape[1:])} on {images.device}"


def _indices(indices: Tensor | Sequence[int], length: int) -> Tensor:
    chosen = torch.as_tensor(indices)
    if chosen.numel() == 0:  # torch makes a float tensor of an empty list
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images to train on, to select on and to report on.

    `name`: the name that `load` takes. `title`: the name in figures. `class_names`: K different names in label order.
    `validation`: images held out of the training images; it may be empty. `hierarchy`: the known superclasses, of the
    same classes in the same order, or None.

    Raises InputError, naming the split or class, for a label outside the classes, a class without a training image, and
    splits of different image shapes or on different devices.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    hierarchy: Hierarchy | None

    def __post_init__(self) -> None:
        for label, class_name in enumerate(self.class_names):
            if class_name in self.class_names[:label]:
                first = self.class_names.index(class_name)
                raise InputError(f"{self.name}: classes {first} and {label} are both called {class_name!r}")
        for which, split in self.splits.items():
            self._check_split(which, split)
        counts = self.train.labels.bincount(minlength=self.num_classes)
        if not bool(counts.all()):
            empty = self.class_names[int((counts == 0).nonzero()[0])]
            raise InputError(f"{self.name}: class {empty!r} has no training image")
        if self.hierarchy is not None and self.hierarchy.class_names != self.class_names:
            raise InputError(
                f"{self.name}: the hierarchy has other classes than the data, or in another order",
                hint="hierarchy.for_classes(class_names) brings them into order",
            )

    def __repr__(self) -> str:
        """Sizes, classes and superclasses in a few lines, and no image."""
        known = "no known superclasses"
        if self.hierarchy is not None:
            known = f"{self.hierarchy.num_superclasses} known superclasses"
        names = shorten(", ".join(self.class_names), 80, placeholder=" ...")
        sizes = ", ".join(f"{len(split)} {which}" for which, split in self.splits.items())
        return "\n".join(
            (
                f"Dataset {self.name!r}: {self.title}",
                f"  images: {sizes}; {_images_in_words(self.train.images)}",
                f"  {self.num_classes} classes, {known}: {names}",
            )
        )

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name; the validation split may be empty."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def split(self, which: str) -> Split:
        """The split `train`, `validation` or `test`; raises InputError for another name, and where it has no images."""
        if which not in self.splits:
            raise InputError(
                f"{self.name}: unknown split {which!r}; there are {', '.join(self.splits)}",
                hint=suggest(which, self.splits),
            )
        if not len(self.splits[which]):
            hints = {
                "validation": "load it with validation=0.05, or use the test split",
                "test": "put images into test/<class>/, or return some from the function that makes the data set",
            }
            raise InputError(f"{self.name}: the {which} split has no images", hint=hints.get(which))
        return self.splits[which]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> Dataset:
        return replace(self, **{which: split.to(device) for which, split in self.splits.items()})

    @cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal digits, of the class names and of the digests of the three splits."""
        parts = [self.class_names, {which: split.digest for which, split in self.splits.items()}]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _check_split(self, which: str, split: Split) -> None:
        train = self.train.images
        if split.images.shape[1:] != train.shape[1:] or split.images.device != train.device:
            raise InputError(
                f"{self.name}: the {which} images are {tuple(split.images.shape[1:])} on {split.images.device}, "
                f"the training images {tuple(train.shape[1:])} on {train.device}"
            )
        outside = split.labels[(split.labels < 0) | (split.labels >= self.num_classes)]
        if outside.numel():
            raise InputError(
                f"{self.name}: label {int(outside[0])} of the {which} split is none of the {self.num_classes} classes "
                f"0 to {self.num_classes - 1}"
            )

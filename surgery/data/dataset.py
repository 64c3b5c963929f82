"""`Dataset`: three splits, what the classes are called, and which superclasses they are known to have."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from surgery.data.split import Split
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images to train on, to select on and to report on.

    `name`: what `load` takes. `title`: what figures say. `class_names`: K different names in label order. `validation`:
    held out of the training images; it may be empty. `hierarchy`: the superclasses that are known, of the same classes
    in the same order, or None.

    Raises InputError, naming the split or class, for a label that is no class, a class without a training image, and
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
        _check_names(self.name, self.class_names)
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

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

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


def _check_names(name: str, class_names: tuple[str, ...]) -> None:
    for label, class_name in enumerate(class_names):
        if class_name in class_names[:label]:
            raise InputError(
                f"{name}: classes {class_names.index(class_name)} and {label} are both called {class_name!r}"
            )

"""Data sets by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from surgery.data.checks import whole
from surgery.data.dataset import Dataset
from surgery.data.digits import digits
from surgery.data.folders import folder
from surgery.data.known import known
from surgery.data.planted import planted
from surgery.data.sampling import divide
from surgery.data.tiny_imagenet import tiny_imagenet
from surgery.errors import InputError, suggest

SOURCES: dict[str, Callable[..., Dataset]] = {
    "cifar10": partial(known, "cifar10"),
    "cifar100": partial(known, "cifar100"),
    "stl10": partial(known, "stl10"),
    "tiny-imagenet": tiny_imagenet,
    "folder": folder,
    "digits": digits,
    "planted": planted,
}
"""What `load` calls, each with what it takes; sizes and shares are seen to by `load` where a source does not."""

DATASETS: tuple[str, ...] = tuple(SOURCES)

VARIABLE = "SURGERY_DATA"
"""The environment variable that says where data are."""


def load(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = False,
    validation: float = 0.05,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    **parameters: Any,
) -> Dataset:
    """Load the data set `name`, one of `DATASETS`.

    `root`: the folder where it is, or that has it in a folder of its own; by default that in the environment variable
    SURGERY_DATA, or `data` where that is not set. `download`: fetch what is missing, where that is possible.
    `train_size`, `test_size`: take only so many images, each class with its share. `validation`: the share of the
    training images taken that is held out of them. `seed`: which training images are taken and held out; test images
    do not depend on it, except for `planted`, where everything does. `image_size`: bring images to that many pixels
    square. `parameters`: what the data set takes besides (`planted` its amplitudes, `tiny-imagenet` its `classes`).

    Raises InputError for an unknown name or parameter, for data that are not there or cannot be read, and for sizes
    that cannot be had.
    """
    source = _find(name)
    takes = inspect.signature(source).parameters
    if download and "download" not in takes:
        raise InputError(f"{name}: cannot be downloaded", hint=f"these can: {', '.join(_downloadable())}")
    if image_size is not None:
        whole(image_size, "image_size", least=1)
    common = {"download": download, "seed": seed, "image_size": image_size}
    sizes = {"validation": validation, "train_size": train_size, "test_size": test_size}
    given = {**common, **sizes, "root": data_root(root)}
    _check_parameters(name, parameters, set(takes) - given.keys())
    passed = {key: value for key, value in given.items() if key in takes and value is not None}
    data = source(**passed, **parameters)
    return data if "train_size" in takes else divide(data, seed=seed, **sizes)


def data_root(root: str | Path | None) -> Path:
    """Where data are: `root` if it is given, or else the environment variable SURGERY_DATA, or else `data`."""
    return Path(os.environ.get(VARIABLE) or "data" if root is None else root).expanduser()


def _find(name: str) -> Callable[..., Dataset]:
    if name not in SOURCES:
        near = suggest(name.lower(), DATASETS)
        raise InputError(f"{name}: unknown data set; there are {', '.join(DATASETS)}", hint=near)
    return SOURCES[name]


def _check_parameters(name: str, parameters: dict[str, Any], own: set[str]) -> None:
    for key in parameters:
        if key not in own:
            what = f"it takes {', '.join(sorted(own))} besides" if own else "it takes none of its own"
            raise InputError(f"{name}: unknown parameter {key!r}; {what}", hint=suggest(key, own))


def _downloadable() -> list[str]:
    return [name for name, source in SOURCES.items() if "download" in inspect.signature(source).parameters]

"""Data sets that are read by other packages: CIFAR-10, CIFAR-100 and STL-10 by torchvision, digits by scikit-learn.

The first three may also be a tree of image folders.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surgery.data.caching import cached
from surgery.data.dataset import Dataset, Split
from surgery.data.decoding import resize
from surgery.data.draws import stream
from surgery.data.folders import list_classes, read
from surgery.data.sampling import hold_out
from surgery.errors import InputError
from surgery.hierarchy import named

_SPLITS = ("train", "test")
_TEST_DIGITS = 360
"""A fifth of the images."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A data set that torchvision reads.

    `folder`: the folder that it looks for. `read`: from the folder above and whether to download, to the tensors
    `train_images`, `train_labels`, `test_images` and `test_labels`.
    """

    title: str
    folder: str
    read: Callable[[Path, bool], dict[str, Tensor]]


def published(name: str, *, root: Path, download: bool = False, image_size: int | None = None) -> Dataset:
    """The data set `name` of `PUBLISHED`, with its superclasses as `hierarchy`.

    Below `root` or `root/NAME` it takes the published files, whose checksums torchvision compares, or else a tree of
    image folders `{train,test}/<class>/*`; labels are the data set's own in both cases. The title tells image folders
    from the published files, and JPEGs, whose pixels differ a little from the published ones, from other images.
    `download` downloads published files that are missing.

    Raises InputError where neither is found, a file is damaged, or a class is missing or unknown.
    """
    source, hierarchy = PUBLISHED[name], named(name)
    places = (root / name, root)
    place = next((place for place in places if (place / source.folder).is_dir()), None)
    tree = next((place for place in places if (place / "train").is_dir()), None)
    if place is None and tree is None and not download:
        raise InputError(
            f"{source.title} not found in {root}; looked for {source.folder}/ and train/<class>/, here and in {name}/",
            hint="download=True downloads it; root=FOLDER or the variable SURGERY_DATA names its folder",
        )
    if place is None and tree is not None and not download:
        kind, splits = _read_tree(tree, hierarchy.class_names, image_size)
        title = f"{source.title} ({kind})"
    else:
        title, splits = source.title, _read_published(source, place or root, download, image_size)
    return Dataset(
        name=name,
        title=title,
        class_names=hierarchy.class_names,
        train=splits["train"],
        validation=splits["train"].subset(slice(0)),
        test=splits["test"],
        hierarchy=hierarchy,
    )


def _read_tree(tree: Path, class_names: tuple[str, ...], image_size: int | None) -> tuple[str, dict[str, Split]]:
    """The kind of the images, in words, and the splits."""
    if not (tree / "test").is_dir():
        raise InputError(f"{tree}: expected a folder test/ next to train/")
    listings = {which: list_classes(tree, tree / which, class_names) for which in _SPLITS}
    lossy = any(name.lower().endswith((".jpg", ".jpeg")) for listing in listings.values() for name in listing.files)
    return "JPEG" if lossy else "image folders", read(tree, listings, image_size=image_size)


def _read_published(source: Published, place: Path, download: bool, image_size: int | None) -> dict[str, Split]:
    def make() -> dict[str, Tensor]:
        tensors = _checked(source, place, download)
        if image_size is not None:
            resized = {key: resize(images, image_size) for key, images in tensors.items() if "images" in key}
            tensors = {**tensors, **resized}
        return tensors

    folder = place / source.folder
    # The cache is named after the published files, so that these have to exist before it is looked for.
    if not folder.is_dir():
        _checked(source, place, download)
    files = sorted(f"{source.folder}/{path.name}" for path in folder.iterdir())
    tensors = cached(place, files, image_size, make)
    return {which: Split(images=tensors[f"{which}_images"], labels=tensors[f"{which}_labels"]) for which in _SPLITS}


def _checked(source: Published, place: Path, download: bool) -> dict[str, Tensor]:
    """Read with torchvision, which compares the checksums of all files first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, about pickles that are older than its own conventions
            return source.read(place, download)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{place / source.folder}: {source.title} cannot be {'downloaded' if download else 'read'}: {error}",
            hint=None if download else "download=True downloads it again where a checksum is wrong",
        ) from None


def _cifar(name: str, place: Path, download: bool) -> dict[str, Tensor]:
    from torchvision import datasets  # two seconds to import; not needed where there is a cache

    result: dict[str, Tensor] = {}
    for which in _SPLITS:
        data: Any = getattr(datasets, name)(place, train=which == "train", download=download)
        assert tuple(data.classes) == named(name).class_names, "both are in the order of the alphabet"
        result[f"{which}_images"] = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        result[f"{which}_labels"] = torch.tensor(data.targets)
    return result


def _stl(place: Path, download: bool) -> dict[str, Tensor]:
    from torchvision.datasets import STL10

    result: dict[str, Tensor] = {}
    for which in _SPLITS:
        data: Any = STL10(place, split=which, download=download)
        result[f"{which}_images"] = torch.from_numpy(data.data).contiguous()
        result[f"{which}_labels"] = torch.from_numpy(data.labels).long()
    return result


PUBLISHED: dict[str, Published] = {
    "cifar10": Published(title="CIFAR-10", folder="cifar-10-batches-py", read=partial(_cifar, "CIFAR10")),
    "cifar100": Published(title="CIFAR-100", folder="cifar-100-python", read=partial(_cifar, "CIFAR100")),
    "stl10": Published(title="STL-10", folder="stl10_binary", read=_stl),
}


def digits(*, image_size: int | None = None) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn, gray, `(1, 8, 8)` or `(1, image_size, image_size)`.

    The test split is always the same 360 images. Raises InputError where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "digits: scikit-learn, which contains them, is not installed", hint="pip install 'model-surgery[data]'"
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    # Pixels count from 0 to 16 in whole steps; 16 becomes 255.
    levels = (np.asarray(pixels, dtype=np.int64) * 255 + 8) // 16
    images = torch.from_numpy(levels.astype(np.uint8)).reshape(-1, 1, 8, 8)
    split = Split(
        images=images if image_size is None else resize(images, image_size),
        labels=torch.from_numpy(np.asarray(labels, dtype=np.int64)),
    )
    train, test = hold_out(split, _TEST_DIGITS, stream(0, "test"))
    return Dataset(
        name="digits",
        title="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        train=train,
        validation=train.subset(slice(0)),
        test=test,
        hierarchy=None,
    )

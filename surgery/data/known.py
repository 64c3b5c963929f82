"""CIFAR-10, CIFAR-100 and STL-10: as they are published, read by torchvision, or as a tree of image folders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surgery.data.cache import cached
from surgery.data.dataset import Dataset
from surgery.data.decoding import resize
from surgery.data.folders import list_classes, read
from surgery.data.split import Split
from surgery.errors import InputError
from surgery.hierarchy import named

_SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Published:
    """What torchvision reads: the folder that it looks for, and tensors `train_images`, `train_labels` and so on."""

    title: str
    folder: str
    read: Callable[[Path, bool], dict[str, Tensor]]


def known(name: str, *, root: Path, download: bool = False, image_size: int | None = None) -> Dataset:
    """The data set `name` of `PUBLISHED`, with its superclasses as `hierarchy`.

    Below `root` or `root/NAME` it takes the published files, whose checksums torchvision checks, or else a tree of
    image folders `{train,test}/<class>/*`; labels are the data set's own in both cases. The title tells image folders
    from the published files, and JPEGs, whose pixels are not quite the published ones, from other images.
    `download` fetches published files that are missing.

    Raises InputError where neither is there, a file is damaged, or a class is missing or unknown.
    """
    published, hierarchy = PUBLISHED[name], named(name)
    places = (root / name, root)
    place = next((place for place in places if (place / published.folder).is_dir()), None)
    tree = next((place for place in places if (place / "train").is_dir()), None)
    if place is None and tree is None and not download:
        raise _missing(name, root)
    if place is None and tree is not None and not download:
        kind, splits = _read_tree(tree, hierarchy.class_names, image_size)
        title = f"{published.title} ({kind})"
    else:
        title, splits = published.title, _read_published(published, place or root, download, image_size)
    return Dataset(
        name=name,
        title=title,
        class_names=hierarchy.class_names,
        train=splits["train"],
        validation=splits["train"].subset(slice(0)),
        test=splits["test"],
        hierarchy=hierarchy,
    )


def _missing(name: str, root: Path) -> InputError:
    published = PUBLISHED[name]
    return InputError(
        f"{root}: {published.title} is not here: neither {published.folder}/ nor train/<class>/, nor either in {name}/",
        hint="download=True fetches it; root=... or the variable SURGERY_DATA says where it is",
    )


def _read_tree(tree: Path, class_names: tuple[str, ...], image_size: int | None) -> tuple[str, dict[str, Split]]:
    """What kind of images there are, and the splits."""
    if not (tree / "test").is_dir():
        raise InputError(f"{tree}: no folder test/ beside train/")
    listings = {which: list_classes(tree, tree / which, class_names) for which in _SPLITS}
    lossy = any(name.lower().endswith((".jpg", ".jpeg")) for listing in listings.values() for name in listing.files)
    return "JPEG" if lossy else "image folders", read(tree, listings, image_size=image_size)


def _read_published(published: Published, place: Path, download: bool, image_size: int | None) -> dict[str, Split]:
    def make() -> dict[str, Tensor]:
        tensors = _checked(published, place, download)
        if image_size is not None:
            resized = {key: resize(images, image_size) for key, images in tensors.items() if "images" in key}
            tensors = {**tensors, **resized}
        return tensors

    folder = place / published.folder
    if not folder.is_dir():
        _checked(published, place, download)
    files = sorted(f"{published.folder}/{path.name}" for path in folder.iterdir())
    tensors = cached(place, files, image_size, make)
    return {which: Split(images=tensors[f"{which}_images"], labels=tensors[f"{which}_labels"]) for which in _SPLITS}


def _checked(published: Published, place: Path, download: bool) -> dict[str, Tensor]:
    """Read through torchvision, which compares the checksums of all files first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, about pickles that are older than its own conventions
            return published.read(place, download)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{place / published.folder}: {published.title} cannot be {'fetched' if download else 'read'}: {error}",
            hint=None if download else "download=True fetches it again where a checksum is not right",
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

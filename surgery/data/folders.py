"""Image folders `train/<class>/*`: the data set `folder`, and the listings and decoding that other data sets share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from surgery.data.caching import cached
from surgery.data.dataset import Dataset, Split
from surgery.data.decoding import SUFFIXES, decode
from surgery.data.draws import stream
from surgery.data.sampling import hold_out
from surgery.errors import InputError, suggest

TEST_SHARE = 0.2
"""The share that `folder` holds out for testing where neither test/ nor val/ exists."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Image files of one split: `files`, as names below the data set's folder, and `labels`, one for each."""

    files: tuple[str, ...]
    labels: tuple[int, ...]


def folder(*, root: Path, image_size: int | None = None) -> Dataset:
    """Image folders `train/<class>/*`, with `test/<class>/*` and `val/<class>/*` where they exist.

    Classes are the folders in train/, in the order of their names. Test images are those in test/, or in val/ where
    test/ does not exist. Without both, a fifth of the training images is held out, always the same images. With both,
    val/ is the validation split.

    Raises InputError naming the folder or file for a split without one of the classes, a class without images, and an
    image that cannot be read or has another size than the others.
    """
    if not (root / "train").is_dir():
        raise InputError(f"{root}: no folder train/ here", hint="images of class NAME are train/NAME/*.png or .jpg")
    class_names = tuple(subfolders(root / "train"))
    if not class_names:
        raise InputError(f"{root / 'train'}: no folders here; expected one for each class")
    there = {which: root / which for which in ("train", "test", "val") if (root / which).is_dir()}
    splits = read(
        root, {which: list_classes(root, path, class_names) for which, path in there.items()}, image_size=image_size
    )
    train, tests = splits["train"], [splits[which] for which in ("test", "val") if which in splits]
    if not tests:
        train, test = hold_out(train, round(TEST_SHARE * len(train)), stream(0, "test"))
        tests = [test]
    name = root.resolve().name
    return Dataset(
        name="folder",
        title=f"{name} (image folders)" if name else "image folders",
        class_names=class_names,
        train=train,
        validation=tests[1] if len(tests) == 2 else train.subset(slice(0)),
        test=tests[0],
        hierarchy=None,
    )


def list_classes(root: Path, path: Path, class_names: Sequence[str]) -> Listing:
    """The images `path/<class>/*`, class after class in the order of `class_names` and by name within.

    Raises InputError for a folder that is no class, a class without a folder, and a folder without images.
    """
    found = subfolders(path)
    for name in found:
        if name not in class_names:
            raise InputError(f"{path / name}: unknown class {name!r}", hint=suggest(name, class_names))
    for name in class_names:
        if name not in found:
            raise InputError(f"{path}: class {name!r} has no folder here")
    return listing(root, [(label, path / name) for label, name in enumerate(class_names)])


def listing(root: Path, folders: Iterable[tuple[int, Path]]) -> Listing:
    """The images in folders, each with the label of its class; raises InputError for a folder without images."""
    files: list[str] = []
    labels: list[int] = []
    for label, path in folders:
        below = path.relative_to(root).as_posix()
        names = images_in(path)
        if not names:
            raise InputError(f"{path}: no images here ({', '.join(SUFFIXES)})")
        files += [f"{below}/{name}" for name in names]
        labels += [label] * len(names)
    return Listing(files=tuple(files), labels=tuple(labels))


def read(root: Path, listings: Mapping[str, Listing], *, image_size: int | None) -> dict[str, Split]:
    """Decode all listings, or read them from the cache in `root`; all images have one shape `(3, height, width)`."""
    files = [name for listing in listings.values() for name in listing.files]
    made = cached(
        root, files, image_size, lambda: {"images": decode([root / name for name in files], image_size=image_size)}
    )
    images = made["images"].split([len(listing.files) for listing in listings.values()])
    return {
        which: Split(images=part, labels=torch.tensor(listing.labels))
        for (which, listing), part in zip(listings.items(), images, strict=True)
    }


def images_in(path: Path) -> list[str]:
    """The names of the images in a folder, sorted, without hidden ones.

    Raises InputError for what has the name of an image and is no file: a read from a pipe would never end.
    """
    with os.scandir(path) as entries:
        images = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != "."]
        for entry in images:
            if not entry.is_file():
                kind = "a folder" if entry.is_dir() else "a link to nothing, a pipe or a device"
                raise InputError(f"{entry.path}: expected an image file, got {kind}")
    return sorted(entry.name for entry in images)


def subfolders(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

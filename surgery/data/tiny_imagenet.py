"""Tiny ImageNet in its published layout, with all of its 200 classes or some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from surgery.data.dataset import Dataset
from surgery.data.folders import Listing, listing, read
from surgery.errors import InputError, suggest
from surgery.files import existing_file


def tiny_imagenet(*, root: Path, image_size: int | None = None, classes: Sequence[str] | None = None) -> Dataset:
    """`wnids.txt`, `words.txt`, `train/<wnid>/images/*`, `val/images/*` and `val/val_annotations.txt` in one folder.

    That folder is `root`, or `tiny-imagenet-200` or `tiny-imagenet` in it. Labels follow wnids.txt; `classes` takes
    only these wnids, in this order. The name of a class is the first of its words, followed by the wnid where two
    classes would have the same name. The published validation images are the test split, because the published test
    images have no labels.

    Raises InputError naming the file, folder or class that is missing or wrong.
    """
    places = (root, root / "tiny-imagenet-200", root / "tiny-imagenet")
    place = next((place for place in places if (place / "wnids.txt").is_file()), None)
    if place is None:
        raise InputError(
            f"Tiny ImageNet not found in {root}; looked for wnids.txt, here, in tiny-imagenet-200/ and tiny-imagenet/",
            hint="root=FOLDER or the variable SURGERY_DATA names its folder; surgery does not download it",
        )
    wnids = _chosen(place / "wnids.txt", classes)
    listings = {"train": _list_train(place, wnids), "test": _list_val(place, wnids)}
    splits = read(place, listings, image_size=image_size)
    every = classes is None and len(wnids) == 200
    return Dataset(
        name="tiny-imagenet",
        title="Tiny ImageNet" if every else f"Tiny ImageNet ({len(wnids)} classes)",
        class_names=_class_names(place / "words.txt", wnids),
        train=splits["train"],
        validation=splits["train"].subset(slice(0)),
        test=splits["test"],
        hierarchy=None,
    )


def _chosen(path: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    wnids = tuple(_lines(path))
    if classes is None:
        return wnids
    if isinstance(classes, str) or not classes:
        raise InputError(f"classes: expected a list of wnids, got {classes!r}")
    for wnid in classes:
        if wnid not in wnids:
            raise InputError(f"{path}: unknown class {wnid!r}", hint=suggest(str(wnid), wnids))
    return tuple(classes)


def _list_train(place: Path, wnids: Sequence[str]) -> Listing:
    folders = [(label, place / "train" / wnid / "images") for label, wnid in enumerate(wnids)]
    for _, path in folders:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder, but wnids.txt lists the class")
    return listing(place, folders)


def _list_val(place: Path, wnids: Sequence[str]) -> Listing:
    """The images in val/ of these classes, in the order of val_annotations.txt."""
    path = place / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in _lines(path)]
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise InputError(f"{path}:{number}: expected the name of an image, a tab and its wnid")
    label = {wnid: label for label, wnid in enumerate(wnids)}
    chosen = [(f"val/images/{row[0]}", label[row[1]]) for row in rows if row[1] in label]
    missing = sorted(set(label) - {row[1] for row in rows})
    if missing:
        raise InputError(f"{path}: no image of class {missing[0]!r}")
    for name, _ in chosen:
        if not (place / name).is_file():
            raise InputError(f"{place / name}: no such file, but val_annotations.txt lists it")
    return Listing(files=tuple(name for name, _ in chosen), labels=tuple(number for _, number in chosen))


def _class_names(path: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in _lines(path) if "\t" in line)
    first = [words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    count = Counter(first)
    return tuple(name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in existing_file(path).read_text(encoding="utf-8").splitlines() if line.strip()]

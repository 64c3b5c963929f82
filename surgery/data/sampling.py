"""Random parts of a data set in which every class keeps its share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.random import PCG64
from torch import Tensor

from surgery.data.checks import number, whole
from surgery.data.dataset import Dataset, Split
from surgery.data.draws import shuffle_keys, stream
from surgery.errors import InputError


def divide(
    data: Dataset, *, validation: float | None, train_size: int | None, test_size: int | None, seed: int
) -> Dataset:
    """Take `train_size` training and `test_size` test images and hold the share `validation` out of the former.

    Every class keeps its share, within one image. So `train` and `validation` together have `train_size` images; None
    takes all. A validation split of the data set's own stays as it is; `validation = 0` makes the split empty, and None
    leaves both splits alone. Training images depend on `seed`; test images do not, so that results of several seeds
    are about the same ones.

    Raises InputError for sizes that are too large or too small.
    """
    if validation is not None:
        number(validation, "validation, the share of the training images that is held out,", least=0, most=0.9)
    whole(seed, "seed", least=0)
    data = replace(
        data,
        train=_part(data, "train", train_size, least=data.num_classes, seed=seed),
        test=_part(data, "test", test_size, least=1, seed=0),
    )
    if validation is None or (len(data.validation) and validation):
        return data
    if len(data.validation):
        return replace(data, validation=data.validation.subset(slice(0)))
    rest, held_out = hold_out(data.train, round(validation * len(data.train)), stream(seed, "validation"))
    return replace(data, train=rest, validation=held_out)


def hold_out(split: Split, size: int, source: PCG64) -> tuple[Split, Split]:
    """Split off `size` images: the rest and these, both in their old order, and each class with its share."""
    if size == 0:
        return split, split.subset(slice(0))
    chosen = balanced(split.labels, size, source)
    kept = torch.ones(len(split), dtype=torch.bool)
    kept[chosen] = False
    return split.subset(kept), split.subset(chosen)


def balanced(labels: Tensor, size: int, source: PCG64) -> Tensor:
    """The indices `(size,)`, ascending, of a random part of `labels` `(n,)` in which every class has its share.

    The images that remain after rounding down go to the classes with the largest remainders, lower labels first. The
    result is the same on every machine.
    """
    array = labels.cpu().numpy()
    # Whole numbers throughout: a share computed in floats could round differently on another machine.
    counts = np.bincount(array)
    quota, remainder = counts * size // counts.sum(), counts * size % counts.sum()
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    # Sorted by label and then by a random key, each class is one stretch in a random order; the first of a stretch are
    # taken. `rank` is the place of an image in its stretch.
    order = np.lexsort((shuffle_keys(source, len(array)), array))
    ordered = array[order]
    rank = np.arange(len(array)) - np.searchsorted(ordered, ordered)
    return torch.from_numpy(np.sort(order[rank < quota[ordered]]))


def _part(data: Dataset, which: str, size: int | None, *, least: int, seed: int) -> Split:
    split = data.splits[which]
    if size is None:
        return split
    if whole(size, f"{which}_size", least=1) > len(split):
        raise InputError(f"{data.name}: {which}_size is {size}, but there are {len(split)} {which} images")
    if size < least:
        raise InputError(f"{data.name}: {which}_size is {size}, but there are {least} classes")
    if size == len(split):
        return split
    return split.subset(balanced(split.labels, size, stream(seed, f"{which}_size")))

"""The images that are attacked, in [0, 1], and their labels: from tensors, data sets or loaders, checked once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from surgery.data import Dataset, Split
from surgery.errors import InputError

Data = tuple[Tensor, Tensor] | Split | Dataset | TorchDataset[Any] | DataLoader[Any]
"""Images `(n, channels, height, width)`, floating in [0, 1] or uint8, with labels `(n,)`; a split; a data set, of which
the test images are taken; or a data set or loader of torch, whose items are images and labels.
"""

_BATCH = 256


def images_and_labels(data: Data) -> tuple[Tensor, Tensor]:
    """Return images `(n, channels, height, width)`, uint8 or floating in [0, 1], and labels `(n,)`, int64.

    A data set or loader of torch is read once, to its end, into the memory.

    Raises InputError for data without images, for images that are not in [0, 1], with the largest value, and for labels
    that are no classes.
    """
    if isinstance(data, Dataset):
        split = data.split("test")
        return split.images, split.labels
    if isinstance(data, Split):
        if not len(data):
            raise InputError("the split has no images")
        return data.images, data.labels
    if isinstance(data, TorchDataset):
        # The default collation makes tensors of numbers and arrays.
        return images_and_labels(DataLoader(data, batch_size=_BATCH))
    if isinstance(data, DataLoader):
        return images_and_labels(_read(data))
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not all(isinstance(item, Tensor) for item in data):
        raise InputError(
            "data: expected a pair of tensors (images and labels), a Split, a Dataset, or a data set or DataLoader of"
            f" torch, got {type(data).__name__}"
        )
    images, labels = data
    _check_images(images)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"expected labels that are whole numbers, got {labels.dtype}")
    if labels.shape != (len(images),):
        raise InputError(f"expected a label for each of the {len(images)} images, got shape {tuple(labels.shape)}")
    if int(labels.min()) < 0:
        where = int((labels < 0).nonzero()[0])
        raise InputError(f"image {where} has label {int(labels[where])}; labels count from 0")
    return images, labels.long()


def _read(loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """All batches of a loader, one after the other."""
    name, images, labels = type(loader.dataset).__name__, list[Tensor](), list[Tensor]()
    try:
        with torch.random.fork_rng(devices=[]):  # every loader draws from the global generator, shuffled or not
            for batch in loader:
                if not isinstance(batch, (tuple, list)) or len(batch) < 2:
                    raise InputError(f"{name}: expected batches of images and labels, got {type(batch).__name__}")
                images.append(torch.as_tensor(batch[0]))
                labels.append(torch.as_tensor(batch[1]).reshape(-1))
        if not images:
            raise InputError(f"{name} has no images")
        return torch.cat(images), torch.cat(labels)
    except InputError:
        raise
    except Exception as error:  # the code of a user may raise anything
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"{name}: reading its images and labels raised {type(error).__name__}: {reason}",
            hint="transform=torchvision.transforms.ToTensor() makes tensors in [0, 1]" if "PIL" in reason else None,
        ) from error


def check_classes(data: Data, labels: Tensor, classes: int) -> None:
    """Raise InputError where the number of outputs of a model does not fit the data or the labels."""
    if isinstance(data, Dataset) and classes != data.num_classes:
        raise InputError(f"the model has {classes} outputs, the data {data.num_classes} classes")
    largest = int(labels.max())
    if largest >= classes:
        where = int((labels == largest).nonzero()[0])
        raise InputError(f"image {where} has label {largest}, but the model has {classes} outputs, 0 to {classes - 1}")


def as_floats(images: Tensor) -> Tensor:
    """uint8 images as value / 255, floating ones as they are, in float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _check_images(images: Tensor) -> None:
    if images.dim() < 2 or not len(images):
        raise InputError(f"expected images of shape (n, channels, height, width), got {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise InputError(f"expected images that are uint8, or floating in [0, 1], got {images.dtype}")
    smallest, largest = float(images.min()), float(images.max())
    if smallest != smallest:
        raise InputError("some pixels are not a number")
    if largest > 1:
        raise InputError(
            f"expected pixels from 0 to 1, got up to {largest:g}",
            hint="divide by 255, or give uint8 images" if largest > 2 else "normalization is a layer of the model",
        )
    if smallest < 0:
        raise InputError(
            f"expected pixels from 0 to 1, got down to {smallest:g}", hint="normalization is a layer of the model"
        )

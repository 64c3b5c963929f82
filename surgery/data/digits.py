"""The handwritten digits that come with scikit-learn: 1,797 grey images of 8 x 8 pixels, nothing to download."""

from __future__ import annotations

import numpy as np
import torch

from surgery.data.dataset import Dataset
from surgery.data.decoding import resize
from surgery.data.draws import stream
from surgery.data.sampling import hold_out
from surgery.data.split import Split
from surgery.errors import InputError

TEST_SIZE = 360
"""A fifth of the images."""


def digits(*, image_size: int | None = None) -> Dataset:
    """Digits 0 to 9, images `(1, 8, 8)` or `(1, image_size, image_size)`; always the same 360 of them are for testing.

    Raises InputError where scikit-learn is not installed.
    """
    split = _read()
    if image_size is not None:
        split = Split(images=resize(split.images, image_size), labels=split.labels)
    train, test = hold_out(split, TEST_SIZE, stream(0, "test"))
    return Dataset(
        name="digits",
        title="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        train=train,
        validation=train.subset(slice(0)),
        test=test,
        hierarchy=None,
    )


def _read() -> Split:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "digits: scikit-learn, which brings them, is not installed", hint="pip install 'model-surgery[data]'"
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    # Pixels count from 0 to 16 in whole steps; 16 becomes 255.
    images = (np.asarray(pixels, dtype=np.int64) * 255 + 8) // 16
    return Split(
        images=torch.from_numpy(images.astype(np.uint8)).reshape(-1, 1, 8, 8),
        labels=torch.from_numpy(np.asarray(labels, dtype=np.int64)),
    )

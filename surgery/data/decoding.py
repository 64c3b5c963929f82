"""Image files to uint8 tensors, in threads: reading waits for the disk, and decoding leaves the interpreter free."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from surgery.errors import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder; case does not matter."""

_EIGHT_BITS = frozenset(("1", "CMYK", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"))
_CHUNK = 128


def decode(files: Sequence[Path], *, image_size: int | None = None) -> Tensor:
    """The images of `files`, uint8 `(n, 3, height, width)`; grey ones become RGB, and transparency is dropped.

    Without `image_size` all of them have to be of one size. With it, the shorter side is brought to that many pixels
    (bilinear, with antialiasing) and the middle square is kept.

    Raises InputError naming the file for one that cannot be read, has more than eight bits a channel, or is of another
    size than the first.
    """
    assert files, "callers find out about empty folders, and name them"
    first = _read(files[0], image_size)
    result = np.empty((len(files), *first.shape), dtype=np.uint8)

    def fill(index: int) -> None:
        image = first if index == 0 else _read(files[index], image_size)
        if image.shape != first.shape:
            raise InputError(
                f"{files[index]}: the image has {_size(image)} pixels, {files[0]} has {_size(first)}",
                hint="image_size=... brings all images to one size",
            )
        result[index] = image

    _in_threads(fill, len(files))
    return _channels_first(result)


def resize(images: Tensor, image_size: int) -> Tensor:
    """uint8 images `(n, channels, height, width)`, one or three channels, as `decode` resizes them."""
    count, channels = images.shape[:2]
    if images.shape[2:] == (image_size, image_size):
        return images
    source = images.permute(0, 2, 3, 1).contiguous().numpy()
    result = np.empty((count, image_size, image_size, channels), dtype=np.uint8)

    def fill(index: int) -> None:
        image = Image.fromarray(source[index] if channels == 3 else source[index, :, :, 0])
        result[index] = np.asarray(_square(image, image_size)).reshape(result.shape[1:])

    _in_threads(fill, count)
    return _channels_first(result)


def _read(path: Path, image_size: int | None) -> NDArray[np.uint8]:
    """One image `(height, width, 3)`."""
    try:
        with Image.open(path) as image:
            if image.mode in _EIGHT_BITS:
                return np.asarray(_square(_as_rgb(image), image_size))
            mode = image.mode
    # Decoders raise nearly anything for a broken file: OSError, SyntaxError, ValueError, struct.error and more.
    except Exception as error:
        raise InputError(f"{path}: not an image that can be read: {_reason(error, path)}") from None
    raise InputError(f"{path}: images have eight bits a channel; this one is of Pillow's mode {mode!r}")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    # A palette with transparent entries has to be spelled out first.
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def _square(image: Image.Image, image_size: int | None) -> Image.Image:
    if image_size is None or image.size == (image_size, image_size):
        return image
    return ImageOps.fit(image, (image_size, image_size), method=Image.Resampling.BILINEAR)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).replace(f" {str(path)!r}", "") or type(error).__name__


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _in_threads(work: Callable[[int], None], count: int) -> None:
    """Do `work` for 0 to `count`; the first error ends it."""

    def chunk(start: int) -> None:
        for index in range(start, min(start + _CHUNK, count)):
            work(index)

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for _ in pool.map(chunk, range(0, count, _CHUNK)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)

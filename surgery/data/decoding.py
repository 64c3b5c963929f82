"""Image files to uint8 tensors, in threads.

Threads are enough, because reading waits for the disk and Pillow's decoders release the interpreter's lock.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from surgery.errors import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""The extensions of images in a folder; case does not matter."""

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read, whatever the extension: for an EPS file Pillow would run Ghostscript, a program."""

_EIGHT_BITS = frozenset(("1", "CMYK", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"))
_CHUNK = 128
"""Images for one task of a thread: a task for each image would cost more than decoding a small one."""


def decode(files: Sequence[Path], *, image_size: int | None = None) -> Tensor:
    """Decode `files` to uint8 `(n, 3, height, width)`; gray images become RGB, and transparency is dropped.

    Images are turned upright where their EXIF data say how. Without `image_size` all images must have one size. With
    it, the shorter side is resized to that many pixels (bilinear, with antialiasing) and the middle square is kept.

    Raises InputError naming the file that cannot be read, has more than eight bits a channel, has more pixels than
    Pillow considers safe, or has another size than the first; and where the images together do not fit into the memory.
    """
    assert files, "callers refuse empty folders by name"
    first = _read(files[0], image_size)
    needed, memory = len(files) * first.nbytes, _memory()
    if needed > memory:
        raise InputError(
            f"{files[0].parent}: {len(files)} images of {first.shape[1]} x {first.shape[0]} pixels take "
            f"{needed / 2**30:.1f} GiB; this machine has {memory / 2**30:.1f} GiB",
            hint="image_size=... resizes all images",
        )
    result = np.empty((len(files), *first.shape), dtype=np.uint8)

    def fill(index: int) -> None:
        image = first if index == 0 else _read(files[index], image_size)
        if image.shape != first.shape:
            (height, width), (expected_height, expected_width) = image.shape[:2], first.shape[:2]
            raise InputError(
                f"{files[index]}: expected {expected_width} x {expected_height} pixels as in {files[0]}, "
                f"got {width} x {height}",
                hint="image_size=... resizes all images to one size",
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
        with Image.open(path, formats=_FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS or math.inf
            if math.prod(image.size) > limit:
                width, height = image.size
                raise InputError(f"{path}: expected at most {limit:,} pixels, got {width} x {height}")
            if image.mode not in _EIGHT_BITS or _is_cut(image):
                raise InputError(
                    f"{path}: expected an image of eight bits a channel, got more (Pillow's mode {image.mode!r})",
                    hint="convert the images to eight bits first",
                )
            # Before any conversion, which would lose the tag; a phone stores images as its sensor was held.
            ImageOps.exif_transpose(image, in_place=True)
            pixels: Image.Image = image
            if image.mode != "RGB":
                # Pillow warns about palettes with transparent entries unless they become RGBA first.
                pixels = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
            return np.asarray(_square(pixels, image_size))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{path}: not an image that can be read: its format is none of {', '.join(_FORMATS)}"
        ) from None
    # Decoders raise nearly anything for a broken file: OSError, SyntaxError, ValueError, struct.error and more.
    except Exception as error:
        text = error.strerror if isinstance(error, OSError) else None
        text = text or str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise InputError(f"{path}: not an image that can be read: {text}") from None


def _is_cut(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would silently cut sixteen bits a channel to eight: its RGB has no mode for more."""
    if image.format == "TIFF":
        return max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))) > 8
    values = [value for tile in image.tile for value in (tile.args if isinstance(tile.args, tuple) else (tile.args,))]
    if image.format == "PPM":  # its decoder is given the largest value of a pixel
        return any(isinstance(value, int) and value > 255 for value in values)
    return any(isinstance(value, str) and ";16B" in value for value in values)  # as RGB;16B, the raw mode of a PNG


_BITS_PER_SAMPLE = 258
"""The number of the TIFF tag."""


def _square(image: Image.Image, image_size: int | None) -> Image.Image:
    if image_size is None or image.size == (image_size, image_size):
        return image
    return ImageOps.fit(image, (image_size, image_size), method=Image.Resampling.BILINEAR)


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _in_threads(work: Callable[[int], None], count: int) -> None:
    """Do `work` for 0 to `count`; the first error stops the rest."""

    def chunk(start: int) -> None:
        for index in range(start, min(start + _CHUNK, count)):
            work(index)

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for _ in pool.map(chunk, range(0, count, _CHUNK)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _memory() -> float:
    """The memory of this machine in bytes; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf

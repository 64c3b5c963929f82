"""Image files to uint8 tensors, decoded once: in threads, with a cache next to the files.

Threads are enough, because reading waits for the disk and Pillow's decoders release the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from surgery.errors import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""The extensions of images in a folder; case does not matter."""

_EIGHT_BITS = frozenset(("1", "CMYK", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"))
_CHUNK = 128
"""Images for one task of a thread: a task for each image would cost more than decoding a small one."""

_VERSION = 1
"""Version of the cache: increased when the same files would be decoded to other tensors."""

_logger = logging.getLogger(__name__)


def decode(files: Sequence[Path], *, image_size: int | None = None) -> Tensor:
    """Decode `files` to uint8 `(n, 3, height, width)`; gray images become RGB, and transparency is dropped.

    Without `image_size` all images must have one size. With it, the shorter side is resized to that many pixels
    (bilinear, with antialiasing) and the middle square is kept.

    Raises InputError naming the file that cannot be read, has more than eight bits a channel, or has another size than
    the first.
    """
    assert files, "callers refuse empty folders by name"
    first = _read(files[0], image_size)
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
        with Image.open(path) as image:
            if image.mode in _EIGHT_BITS:
                pixels: Image.Image = image
                if image.mode != "RGB":
                    # Pillow warns about palettes with transparent entries unless they become RGBA first.
                    pixels = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
                return np.asarray(_square(pixels, image_size))
            mode = image.mode
    # Decoders raise nearly anything for a broken file: OSError, SyntaxError, ValueError, struct.error and more.
    except Exception as error:
        text = error.strerror if isinstance(error, OSError) else None
        text = text or str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise InputError(f"{path}: not an image that can be read: {text}") from None
    raise InputError(f"{path}: expected an image of eight bits a channel, got one of Pillow's mode {mode!r}")


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


def cached(
    folder: Path, files: Iterable[str], image_size: int | None, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the tensors that `make` makes of `files` in `folder`: from the cache in `folder`, or made and written.

    The name of the cache has a digest of the files' names, sizes and times of change, and of `image_size`: files that
    have changed are decoded again. The images themselves are not read for it, which would take as long as decoding.
    Where the folder cannot be written there is no cache, and a damaged cache is replaced.
    """
    digest = hashlib.sha256(f"{_VERSION} {image_size}".encode())
    for name in files:
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - making 60,000 paths takes longer than the calls
        digest.update(b"\0%s\0%d\0%d" % (os.fsencode(name), status.st_size, status.st_mtime_ns))
    path = folder / f"surgery-cache-{digest.hexdigest()[:16]}.safetensors"
    if path.is_file():
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            _logger.warning("%s: cannot be read and is replaced: %s", path, error)
    made = make()
    _save(path, made)
    return made


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file of another name, force it to the disk, and move it into place; a failure is logged, not raised."""
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.touch()
        mode = draft.stat().st_mode
        save_file(tensors, draft)
        draft.chmod(mode)  # safetensors makes files that only their owner can read
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except (OSError, SafetensorError) as error:
        _logger.info("%s: decoded images are not kept: %s", path.parent, error)
    finally:
        with suppress(OSError):  # there is no draft if the folder cannot be written
            draft.unlink(missing_ok=True)

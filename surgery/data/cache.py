"""Decoded images, kept beside the files they come from."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

_VERSION = 1
"""Counted up when the same files would be decoded to other tensors."""

_logger = logging.getLogger(__name__)


def cached(
    folder: Path, files: Iterable[str], image_size: int | None, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What `make` returns for `files` of `folder`, from the cache in `folder` if it is there, and else put there.

    The name of the cache has a digest of the files' names, sizes and times of change, and of `image_size`: files that
    have changed are decoded anew. Where the folder cannot be written there is no cache, and a broken one is replaced.
    """
    path = folder / f"surgery-cache-{_digest(folder, files, image_size)}.safetensors"
    found = _load(path)
    if found is None:
        found = make()
        _save(path, found)
    return found


def _digest(folder: Path, files: Iterable[str], image_size: int | None) -> str:
    result = hashlib.sha256(f"{_VERSION} {image_size}".encode())
    for name in files:
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - making 60,000 paths takes longer than the calls
        result.update(b"\0%s\0%d\0%d" % (os.fsencode(name), status.st_size, status.st_mtime_ns))
    return result.hexdigest()[:16]


def _load(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        _logger.warning("%s: cannot be read and is made anew: %s", path, error)
        return None


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file of another name, force it to the disk, and move it into place; say so where that cannot be done."""
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
        with suppress(OSError):  # a folder that cannot be written has no draft either
            draft.unlink(missing_ok=True)

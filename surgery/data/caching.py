"""The cache of decoded images, next to their files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_VERSION = 2
"""Version of the cache: increased when the same files would be decoded to other tensors."""

_DIGEST = "sha256"
"""The key of the digest in the metadata of a cache."""

_logger = logging.getLogger(__name__)


def cached(
    folder: Path, files: Iterable[str], image_size: int | None, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the tensors that `make` makes of `files` in `folder`: from the cache in `folder`, or made and written.

    The name of the cache has a digest of the files' names, sizes and times, and of `image_size`: files that have
    changed are decoded again. The images themselves are not read for it, which would take as long as decoding. The
    cache holds the SHA-256 of its tensors: one that was damaged or edited is replaced, with a warning. Where the folder
    cannot be written there is no cache.
    """
    digest = hashlib.sha256(f"{_VERSION} {image_size}".encode())
    for name in files:
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - making 60,000 paths takes longer than the calls
        # The time of change (ctime) as well: the time of modification is copied and set back by many programs.
        times = (status.st_mtime_ns, status.st_ctime_ns)
        digest.update(b"\0%s\0%d\0%d\0%d" % (os.fsencode(name), status.st_size, *times))
    path = folder / f"surgery-cache-{digest.hexdigest()[:16]}.safetensors"
    if path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                said = (file.metadata() or {}).get(_DIGEST)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            if said == tensor_digest(tensors):
                return tensors
            _logger.warning("%s: its content is not what was written; it is replaced", path)
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
        save_file(tensors, draft, metadata={_DIGEST: tensor_digest(tensors)})
        draft.chmod(mode)  # safetensors makes files that only their owner can read
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except (OSError, SafetensorError) as error:
        _logger.info("%s: decoded images are not kept: %s", path.parent, error)
    finally:
        with suppress(OSError):  # there is no draft if the folder cannot be written
            draft.unlink(missing_ok=True)


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256, in hexadecimal digits, of names, types, shapes and numbers."""
    result = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        result.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, because NumPy has no bfloat16.
        result.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()

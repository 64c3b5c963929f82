"""Reading what is there, and writing so that a file is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from surgery.errors import InputError, suggest


def existing_file(path: str | Path) -> Path:
    """Return `path` as a Path to a readable, non-empty file, or raise InputError."""
    path = Path(path)
    if not path.exists():
        near = suggest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else None
        raise InputError(f"{path}: no such file", hint=near)
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None
    if empty:
        raise InputError(f"{path}: the file is empty")
    return path


def check_writable(path: str | Path) -> None:
    """Raise InputError where a file could not be written to `path`, before any work is done for it."""
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{path}: the folder {folder} cannot be written")


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a temporary file beside `path`, force it to the disk, and move it into place.

    Raises InputError where that cannot be done; what was there before is then untouched.
    """
    path = Path(path)
    check_writable(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; Windows cannot open a folder and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

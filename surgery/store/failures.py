"""What goes wrong with a store, said so that its user knows what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from surgery.errors import InputError


class StoreError(InputError):
    """A store cannot be opened, read or written as it is."""


_REASONS = {
    errno.ENOSPC: ("no space left on the disk", "free some, or write to another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some, or write to another folder"),
    errno.EFBIG: ("the file would be larger than is allowed here", "see ulimit -f"),
    errno.EROFS: ("the folder is on a read-only disk", "write to another folder"),
    errno.EACCES: ("permission denied", "write to another folder"),
    errno.EPERM: ("permission denied", "write to another folder"),
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn whatever the disk or HDF5 refuses while `path` is being written into a StoreError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises RuntimeError where HDF5 gives no errno
        reason, hint = _REASONS.get(_errno(error) or 0, (_short(error), None))
        raise StoreError(f"{path}: cannot be written: {reason}; what was there is untouched", hint=hint) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 refuses to read into a StoreError that names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        text = str(error)
        if "file signature not found" in text:
            raise StoreError(f"{path}: expected an HDF5 file, found something else") from error
        if "truncated file" in text:
            raise StoreError(f"{path}: the file is truncated", hint="copy it again, or run the stages again") from error
        if "unable to lock file" in text:
            raise StoreError(f"{path}: another program has the file open for writing", hint="close it there") from error
        raise StoreError(
            f"{path}: cannot be read: {_short(error)}", hint="if the file is damaged, the stages have to run again"
        ) from error


def _errno(error: BaseException) -> int | None:
    """The errno of an OSError; h5py sometimes has it only in the text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return next((number for number in _REASONS if f"errno = {number}," in str(error)), None)


def _short(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__

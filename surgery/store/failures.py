"""`StoreError`, and how errors of the disk and of HDF5 become one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from surgery.errors import InputError


class StoreError(InputError):
    """A store cannot be opened, read or written."""


# What h5py raises, and what the values of a store raise, where a file says something impossible about itself.
_DAMAGE = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, InputError),
    *(MemoryError, SystemError, OverflowError),
)

_NOT_WRITTEN = {
    errno.ENOSPC: ("no space left on the disk", "free some space, or write to another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or write to another folder"),
    errno.EFBIG: ("the file would be larger than the limit of this process", "see ulimit -f"),
    errno.EROFS: ("the folder is on a read-only disk", "write to another folder"),
    errno.EACCES: ("permission denied", "write to another folder"),
    errno.EPERM: ("permission denied", "write to another folder"),
}

# HDF5 has no error numbers of its own: its texts are the only way to tell these cases apart.
_NOT_READ = {
    "file signature not found": ("expected an HDF5 file, got a file of another format", None),
    "truncated file": ("the file is truncated", "copy it again, or rerun the stages"),
    "unable to lock file": ("another program has the file open for writing", "close the file there"),
}


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise a StoreError if the block, which writes `path`, fails on the disk or in HDF5."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises RuntimeError where HDF5 reports no errno
        # h5py often has the errno only in the text.
        number = getattr(error, "errno", None) or next((n for n in _NOT_WRITTEN if f"errno = {n}," in str(error)), 0)
        reason, hint = _NOT_WRITTEN.get(number, (_first_line(error), None))
        raise StoreError(f"{path}: cannot be written: {reason}; the old content is unchanged", hint=hint) from error


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Raise a StoreError that names `path` if the block, which reads it, fails in HDF5 or finds damaged content."""
    try:
        yield
    except StoreError:
        raise
    except _DAMAGE as error:
        for text, (reason, hint) in _NOT_READ.items():
            if text in str(error):
                raise StoreError(f"{path}: {reason}", hint=hint) from error
        raise StoreError(
            f"{path}: cannot be read: {_first_line(error)}",
            hint="`surgery results check` lists damaged groups; if there is no copy of the file, delete it and rerun",
        ) from error


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__

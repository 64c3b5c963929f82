"""Writing a store so that it is there whole, as it was or as it shall be, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import h5py

from surgery.errors import InputError
from surgery.files import check_writable
from surgery.store import layout
from surgery.store.copying import copy_groups
from surgery.store.failures import StoreError, explained
from surgery.store.lock import folder_lock
from surgery.store.reading import opened, store_path
from surgery.store.values import Group

_PREFIX, _SUFFIX = ".surgery-", ".h5.tmp"


def write_group(path: str | Path, group: Group, *, replace: bool = False, timeout: float = 60.0) -> Path:
    """Add `group` to the store at `path`, and return the store's path; see `write_groups`."""
    return write_groups(path, (group,), replace=replace, timeout=timeout)


def write_groups(path: str | Path, groups: Iterable[Group], *, replace: bool = False, timeout: float = 60.0) -> Path:
    """Add `groups` to the store at `path`, a file or a run folder, which is made where there is none.

    All of them are there when this returns, also after a power cut; none is where it raises, and a reader sees the
    store as it was until the last moment. A copy is written and moved into place: writing into the store itself would
    lose *earlier* groups to a kill.

    `replace`: groups of these names may be there, and go. `timeout`: seconds to wait for another writer.

    Raises StoreError where a name is taken, another writer stays, the disk refuses, or the store is not one of ours.
    """
    groups = tuple(groups)
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise InputError(f"expected groups of different names, found {', '.join(names)}")
    path = Path(os.path.realpath(store_path(path)))  # a link stays a link
    check_writable(path)
    with folder_lock(path.parent, timeout=timeout):
        taken = _taken(path, names, replace=replace)
        _sweep(path.parent)
        with explained(path), _draft(path) as draft:
            _fill(draft, path, groups, taken)
            _sync(draft)
            os.replace(draft, path)
            _sync(path.parent)
    return path


def _taken(path: Path, names: Sequence[str], *, replace: bool) -> list[str]:
    """The groups that are to be replaced."""
    if not path.exists():
        return []
    with opened(path) as file:
        taken = [name for name in names if name in file]
    if taken and not replace:
        raise StoreError(
            f"{path}: there is a group {taken[0]!r} already",
            hint="choose another name, or say that it is to be replaced",
        )
    return taken


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """The name of a file beside `path` that is gone when the block ends."""
    draft = path.parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _fill(draft: Path, path: Path, groups: Sequence[Group], taken: Sequence[str]) -> None:
    """Write the store at `path` without the groups `taken`, and then `groups`, to `draft`."""
    there = path.exists()
    if there and not taken:
        shutil.copyfile(path, draft)
    else:
        draft.write_bytes(layout.empty_store(metadata.version("model-surgery")))
    if there:
        shutil.copymode(path, draft)
    _reserve(draft, (path if there else draft).stat().st_size + sum(map(layout.largest_size, groups)))
    # No HDF5 lock: nobody else knows this file, and network disks often have no locks.
    with h5py.File(draft, "r+", libver=layout.LIBVER, locking=False) as file:
        if taken:
            with opened(path) as old:
                copy_groups(old, file, without=taken)
        for group in groups:
            layout.put_group(file, group)


def _reserve(draft: Path, size: int) -> None:
    """Make the disk promise `size` bytes, or raise OSError; HDF5 gives back what it did not need.

    HDF5 does not outlive a full disk: the process would crash when it ends.
    """
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(draft.parent).free < size - draft.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    with draft.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def _sweep(folder: Path) -> None:
    """Remove drafts of processes that died: whoever holds the lock knows that no other is being written."""
    for stray in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        stray.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk; Windows cannot open a folder and does not need it."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

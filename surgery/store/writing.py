"""Writing a store: a reader sees the old or the new content, never a mix, even after a crash."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import h5py

from surgery.errors import InputError
from surgery.files import check_writable, existing_file
from surgery.store import layout
from surgery.store.failures import StoreError, write_errors
from surgery.store.lock import folder_lock
from surgery.store.reading import GroupTexts, arrays_of, groups_of, is_text, opened, store_path
from surgery.store.values import Group

_PREFIX, _SUFFIX = ".surgery-", ".h5.tmp"


def write_group(path: str | Path, group: Group, *, replace: bool = False, timeout: float = 60.0) -> Path:
    """Add `group` to the store at `path`, and return the store's path; see `write_groups`."""
    return write_groups(path, (group,), replace=replace, timeout=timeout)


def write_groups(path: str | Path, groups: Iterable[Group], *, replace: bool = False, timeout: float = 60.0) -> Path:
    """Add `groups` to the store at `path`, a file or a run folder; the store is made if there is none.

    When this function returns, all groups are on the disk; when it raises, the store is unchanged. A copy is written
    and moved into place, because a process that is killed while it writes into the store itself loses *earlier* groups.

    `replace`: groups of these names that the store has are replaced. `timeout`: seconds to wait for another writer.

    Raises StoreError if a name is taken, another writer holds the lock, the disk refuses, or the file is no store.
    """
    groups = tuple(groups)
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise InputError(f"expected groups of different names, got {', '.join(names)}")
    path = Path(os.path.realpath(store_path(path)))  # replaces the target of a link, not the link
    check_writable(path)
    with folder_lock(path.parent, timeout=timeout):
        taken: list[str] = []
        if path.exists():
            with opened(path) as file:
                taken = [name for name in names if name in file]
        if taken and not replace:
            raise StoreError(
                f"{path}: the store has a group {taken[0]!r} already",
                hint="choose another name, or replace the group (`replace=True`)",
            )
        _replace(path, groups, taken)
    return path


def remove_groups(path: str | Path, names: Iterable[str], *, timeout: float = 60.0) -> Path:
    """Remove the groups `names`, which may be damaged, from the store at `path`, and return the store's path.

    Raises StoreError as `write_groups` does.
    """
    path = Path(os.path.realpath(existing_file(store_path(path))))
    check_writable(path)
    with folder_lock(path.parent, timeout=timeout):
        _replace(path, (), tuple(names))
    return path


def _replace(path: Path, groups: Sequence[Group], taken: Sequence[str]) -> None:
    """Move a store without the groups `taken`, followed by `groups`, into the place of the store at `path`."""
    # No other process writes here while this one holds the lock, so existing drafts belong to dead processes.
    for draft in path.parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        draft.unlink(missing_ok=True)
    draft = path.parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    with write_errors(path):
        try:
            _write_draft(draft, path, groups, taken)
            _sync(draft)
            os.replace(draft, path)
            _sync(path.parent)  # the new name is an entry of the folder
        finally:
            draft.unlink(missing_ok=True)


def _write_draft(draft: Path, path: Path, groups: Sequence[Group], taken: Sequence[str]) -> None:
    """Write the store at `path` without the groups `taken`, followed by `groups`, to `draft`."""
    exists = path.exists()
    if exists and not taken:
        shutil.copyfile(path, draft)
    else:
        draft.write_bytes(layout.empty_store(metadata.version("model-surgery")))
    if exists:
        shutil.copymode(path, draft)
    _reserve(draft, (path if exists else draft).stat().st_size + sum(map(layout.largest_size, groups)))
    # Without HDF5's lock: no other process knows this file, and network disks often have no locks.
    with h5py.File(draft, "r+", libver=layout.LIBVER, locking=False) as file:
        if taken:
            with opened(path, unchecked=taken) as old:
                for group in groups_of(old, without=taken).values():
                    # HDF5 crashes where it copies damaged texts.
                    for _ in arrays_of(group, GroupTexts.read(group), where=is_text):
                        pass
                layout.copy_groups(old, file, without=taken)
        for group in groups:
            layout.put_group(file, group)


def _reserve(draft: Path, size: int) -> None:
    """Reserve `size` bytes on the disk for `draft`, or raise OSError; HDF5 releases the bytes that it does not need.

    A disk that is full while HDF5 writes would crash the process when it exits.
    """
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(draft.parent).free < size - draft.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    with draft.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def _sync(path: Path) -> None:
    """Force the content of a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and does not need to
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The check of global heaps, in which HDF5 keeps texts of variable length.

They have no checksums, and HDF5 trusts the sizes in them: a size of zero makes it loop for ever inside C, where no
signal of Python reaches it, and too large a size has it write outside its memory.
"""

from __future__ import annotations

import mmap
import os
import struct
from functools import lru_cache
from pathlib import Path

from surgery.store.failures import StoreError

# The signature with its version and reserved zeros: eight bytes that compressed numbers do not hold by chance.
_SIGNATURE = b"GCOL\x01\0\0\0"
_HEADER = 16
"""Bytes of the header of a heap, and of each object in it."""


def check_heaps(path: Path) -> None:
    """Raise StoreError if an object in a global heap of the file does not fit into its heap."""
    state = path.stat()
    # One process opens a store once for each group that it reads.
    _check(os.fspath(path), (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=64)
def _check(path: str, state: tuple[int, ...]) -> None:
    """Check the file in this state; a file that passed is not read again."""
    with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_SIGNATURE)
        while start >= 0:
            if not _fits(content, start):
                raise StoreError(
                    f"{path}: damaged: the texts at byte {start} do not fit into their place",
                    hint="restore a copy of the file; without one, delete it and rerun its stages",
                )
            start = content.find(_SIGNATURE, start + len(_SIGNATURE))


def _fits(content: mmap.mmap, start: int) -> bool:
    """Whether the objects of the heap at `start` fill it without a gap (HDF5 file format 2.0, section III.E)."""
    if start + _HEADER > len(content):
        return False
    end = start + struct.unpack_from("<Q", content, start + 8)[0]
    if end > len(content):
        return False
    place = start + _HEADER
    while end - place >= _HEADER:
        index, size = struct.unpack_from("<H6xQ", content, place)
        # Object 0 is the free space, whose size includes its header.
        needed = size if index == 0 else _HEADER + (size + 7) // 8 * 8
        if not _HEADER <= needed <= end - place:
            return False
        place += needed
    return True

"""One writer at a time in a folder: a lock that the kernel holds, and a note that names its holder."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from surgery.store.failures import StoreError, write_errors

LOCK, NOTE = ".surgery.lock", ".surgery.holder.json"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock; `start`: when it took the lock, in UTC."""

    host: str
    process: int
    start: str
    command: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.start} ({self.command})"


@contextmanager
def folder_lock(folder: str | Path, *, timeout: float = 60.0) -> Iterator[None]:
    """Hold the lock of `folder` while the block runs; a thread that holds it can take it again.

    The kernel releases the lock of a process that dies, so no lock stays behind. The next holder logs a warning that
    names the dead process.

    Raises StoreError, naming the holder, if the lock is not free within `timeout` seconds.
    """
    folder = Path(folder).resolve()
    # A singleton for each folder and thread: only the same object can take a lock that it already holds.
    lock = FileLock(folder / LOCK, is_singleton=True)
    with write_errors(folder):
        try:
            lock.acquire(timeout=timeout, poll_interval=0.02)
        except Timeout:
            raise StoreError(
                f"{folder}: locked by {holder(folder) or 'another process'}; waited {timeout:g} s",
                hint="wait until that process ends, or stop it; its lock ends with it",
            ) from None
    try:
        if lock.lock_counter > 1:  # an outer block of this thread has written the note and removes it
            yield
            return
        dead = holder(folder)
        if dead is not None:
            _logger.warning("%s: took over the lock of %s, which ended without releasing it", folder, dead)
        with write_errors(folder):
            _write_note(folder)
        try:
            yield
        finally:
            (folder / NOTE).unlink(missing_ok=True)
    finally:
        lock.release()


def holder(folder: Path) -> Holder | None:
    """The process that holds the lock of `folder`, or that died holding it; None if there is no note."""
    path = folder / NOTE
    try:
        # A pipe of this name would block.
        return Holder(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except (OSError, ValueError, TypeError):  # no note, or not one that this version wrote
        return None


def _write_note(folder: Path) -> None:
    who = Holder(
        host=socket.gethostname(),
        process=os.getpid(),
        start=datetime.now(UTC).isoformat(timespec="seconds"),
        command=Path(sys.argv[0] or sys.executable).name,
    )
    # Moved into place, because processes that wait must not read half a note. Only the holder of the lock writes it,
    # so that a fixed name is enough.
    draft = folder / f"{NOTE}.tmp"
    try:
        draft.write_text(json.dumps(asdict(who)), encoding="utf-8")
        os.replace(draft, folder / NOTE)
    except OSError:
        draft.unlink(missing_ok=True)
        raise

"""One writer for a folder: a lock that the kernel holds, and a note beside it that says who has it."""

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

from surgery.store.failures import StoreError, explained

LOCK, NOTE = ".surgery.lock", ".surgery.holder.json"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has the lock: `start` is when it was taken, in UTC."""

    host: str
    process: int
    start: str
    command: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.start} ({self.command})"


@contextmanager
def folder_lock(folder: str | Path, *, timeout: float = 60.0) -> Iterator[None]:
    """Hold the lock of `folder` while the block runs; a thread that has it may take it again.

    The kernel releases the lock of a process that dies, so none is left behind; that its holder died is logged.
    Raises StoreError, naming the holder, where the lock is not free within `timeout` seconds.
    """
    folder = Path(folder).resolve()
    # One object for a folder and a thread: that is what makes taking it twice possible.
    lock = FileLock(folder / LOCK, is_singleton=True)
    with explained(folder):
        try:
            lock.acquire(timeout=timeout, poll_interval=0.02)
        except Timeout:
            raise _held(folder, timeout) from None
    try:
        with _signed(folder, outermost=lock.lock_counter == 1):
            yield
    finally:
        lock.release()


def holder(folder: Path) -> Holder | None:
    """Who holds the lock of `folder`, or died holding it; None where nobody left a note."""
    try:
        return Holder(**json.loads((folder / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or one that is just being written
        return None


@contextmanager
def _signed(folder: Path, *, outermost: bool) -> Iterator[None]:
    if not outermost:
        yield
        return
    died = holder(folder)
    if died is not None:
        _logger.warning("%s: took over the lock of %s, which ended without releasing it", folder, died)
    with explained(folder):
        _sign(folder)
    try:
        yield
    finally:
        (folder / NOTE).unlink(missing_ok=True)


def _sign(folder: Path) -> None:
    who = Holder(
        host=socket.gethostname(),
        process=os.getpid(),
        start=datetime.now(UTC).isoformat(timespec="seconds"),
        command=Path(sys.argv[0] or sys.executable).name,
    )
    # Moved into place, for whoever waits must not read half a note; only the holder comes here, so one name is enough.
    draft = folder / f"{NOTE}.tmp"
    try:
        draft.write_text(json.dumps(asdict(who)), encoding="utf-8")
        os.replace(draft, folder / NOTE)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _held(folder: Path, timeout: float) -> StoreError:
    who = holder(folder)
    return StoreError(
        f"{folder}: locked by {who or 'another process'}; waited {timeout:g} s",
        hint="wait for it, or stop it; the lock of a process that is gone is taken over by itself",
    )

"""What torch.fx and `torch.export` do to a whole process while they record, confined to the recording thread.

They patch `nn.Module` for all threads, and print pages about every branch that they refuse.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, TextIO

from torch.fx import _symbolic_trace as fx_trace

_recording = threading.RLock()


class _OwnThread(fx_trace._Patcher):
    """Patches of methods that other threads do not see: their forwards would be recorded, or fail."""

    def patch_method(self, cls: type, name: str, new_fn: Callable[..., Any], deduplicate: bool = True) -> None:
        owner, original = threading.get_ident(), getattr(cls, name)

        @functools.wraps(new_fn)
        def method(*args: Any, **kwargs: Any) -> Any:
            return (new_fn if threading.get_ident() == owner else original)(*args, **kwargs)

        super().patch_method(cls, name, method, deduplicate)


@contextmanager
def recording() -> Iterator[None]:
    """Let torch.fx, and `torch.export` on top of it, record in this thread while all others compute as usual.

    One thread records at a time, as the bookkeeping of torch.fx is global: another thread that records waits.
    """
    with _recording:
        before = fx_trace._Patcher
        fx_trace._Patcher = _OwnThread
        try:
            yield
        finally:
            fx_trace._Patcher = before


class _OtherThreads(logging.Filter):
    """A stream and a filter of log records that pass on what other threads write."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.muted = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self.muted

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.muted else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def muted() -> Iterator[None]:
    """Drop what this thread writes to stderr and what torch logs in it.

    For attempts whose failure is handled: `torch.export` prints the program of a branch that it refuses.
    """
    others = _OtherThreads(sys.stderr)
    # The handlers of torch keep the stream that they were made with, so the redirection does not reach them.
    handlers = list(logging.getLogger("torch").handlers)
    with redirect_stderr(others):  # pyright: ignore[reportArgumentType]
        for handler in handlers:
            handler.addFilter(others)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(others)

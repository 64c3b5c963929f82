"""torch.fx records by patching `nn.Module` for all threads; here its patches act in the recording thread only."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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

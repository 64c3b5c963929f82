"""Ctrl-C: the first one stops a command where no work is lost, the second one at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(kw_only=True)
class Stop:
    """Whether the user asked the command to stop."""

    asked: bool = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if the user asked to stop; called at points where stopping loses no work."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def stoppable(say: Callable[[], None]) -> Iterator[Stop]:
    """Record the first SIGINT or SIGTERM of the block in the `Stop`, and call `say`; the second interrupts at once.

    `say` is called in a signal handler, between any two instructions of the program, so it must not take a lock.
    """
    stop = Stop()

    # The handler of the first signal only sets a flag: an exception at any instruction could leave a file half written.
    def handle(number: int, frame: object) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        say()

    if threading.current_thread() is not threading.main_thread():  # Python allows signal handlers only there
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = [number for number, handler in before.items() if handler != signal.SIG_IGN]  # nohup ignores them
    for number in handled:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number in handled:
            # A handler that was installed by C code is None in Python, which cannot restore it.
            signal.signal(number, before[number] or signal.SIG_DFL)

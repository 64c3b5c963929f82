"""Ctrl-C: the first one lets what is being computed come to its end, a second one does not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(kw_only=True)
class Stop:
    """Whether the user has asked the command to stop."""

    asked: bool = False

    def check(self) -> None:
        """Raise KeyboardInterrupt where that was asked; called wherever stopping loses nothing."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def stoppable(say: Callable[[], None]) -> Iterator[Stop]:
    """Take the first SIGINT or SIGTERM during the block as a wish, and call `say`; the second one interrupts at once.

    `say` is called between any two instructions of the program, so it must not take a lock.
    """
    stop = Stop()

    def hear(number: int, frame: object) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        say()

    if threading.current_thread() is not threading.main_thread():  # which alone may say what signals do
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]  # nohup has them ignored
    for number in heard:
        signal.signal(number, hear)
    try:
        yield stop
    finally:
        for number in heard:
            signal.signal(number, before[number] or signal.SIG_DFL)

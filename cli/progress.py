"""The progress of a run: a list of stages on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery_cli.console import Output, console

if TYPE_CHECKING:
    from surgery.stages import Listener, StageProgress
    from surgery_cli.show.board import Board

SECONDS_BETWEEN_PICTURES = 0.2
"""How often the list of stages is drawn."""

SECONDS_BETWEEN_LINES = 30.0
"""How often a stage reports its progress without a terminal."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Where a run sends its progress, `listener`, and its warnings, `warn`."""

    listener: Listener
    warn: Callable[[str], None]


@contextmanager
def watching(board: Board, out: Output, *, quiet: bool) -> Iterator[Watcher]:
    """Show the progress of a run during the block."""
    if quiet:

        def update(progress: StageProgress) -> None:
            board.update(progress)

        yield Watcher(listener=update, warn=out.warn)
    elif sys.stderr.isatty():
        with _on_terminal(board) as watcher:
            yield watcher
    else:
        yield Watcher(listener=_in_lines(board, out.note), warn=out.warn)


@contextmanager
def _on_terminal(board: Board) -> Iterator[Watcher]:
    """The list of stages at the bottom, redrawn as it changes; permanent lines are printed above it."""
    from rich.live import Live

    from surgery_cli.show.board import BoardView, lasting_line

    # A thread of our own draws the list: rich's thread reads the position of the list and draws it in two steps, so
    # lines that are printed between the two get lost.
    drawing = threading.Lock()

    def say(name: str, text: str) -> None:
        with drawing:
            live.console.print(lasting_line(name, text))

    def listen(progress: StageProgress) -> None:
        row = board.update(progress)
        if progress.lasting and progress.state == "running":
            say(row.name, progress.text)

    live = Live(BoardView(board=board), console=console(sys.stderr), auto_refresh=False)
    with live, _every(SECONDS_BETWEEN_PICTURES, live.refresh, drawing):
        yield Watcher(listener=listen, warn=lambda text: say("", f"warning: {text}"))


@contextmanager
def _every(seconds: float, act: Callable[[], None], lock: threading.Lock) -> Iterator[None]:
    """Call `act` every few `seconds` during the block, holding the lock."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            with lock:
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _in_lines(board: Board, say: Callable[[str], None]) -> Listener:
    """A line for the beginning and the end of each stage and for each epoch; a long stage reports from time to time."""
    from surgery_cli.show.board import progress_words
    from surgery_cli.show.pieces import count

    total = len(board.rows)
    # The time of the last line of each stage: a log file should grow by lines per minute, not per batch.
    said: dict[int, float] = {}
    say(f"{board.title}: {count(total, 'stage')}, in {board.folder}")

    def listen(progress: StageProgress) -> None:
        begins = board.rows[progress.number - 1].state == "waiting"
        row, now = board.update(progress), time.monotonic()
        head = f"[{progress.number:{len(str(total))}}/{total}] {row.name}"
        if progress.state == "cached":
            say(f"{head} ({row.kind}): up to date, skipped")
        elif progress.state == "done":
            say(f"{head}: done, {progress.text}")
        elif begins:
            said[progress.number] = now
            say(f"{head} ({row.kind})")
        elif progress.lasting or now - said[progress.number] >= SECONDS_BETWEEN_LINES:
            said[progress.number] = now
            say(f"{head}: {progress.text if progress.lasting else progress_words(row)}")

    return listen

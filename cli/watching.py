"""A run while it goes on: a list of stages on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery_cli.board import Board
from surgery_cli.console import Output, console

if TYPE_CHECKING:
    from surgery.recipe.running import Report, StageProgress

SECONDS_BETWEEN_PICTURES = 0.2
"""How often the list of stages is drawn."""

SECONDS_BETWEEN_LINES = 30.0
"""Where there is no terminal, a stage says this often how far it is."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """What a run tells: `report` hears of its progress, `warn` of what must not be missed."""

    report: Report
    warn: Callable[[str], None]


@contextmanager
def watching(board: Board, out: Output, *, quiet: bool) -> Iterator[Watcher]:
    """Show a run while the block goes on."""
    if quiet:
        yield Watcher(report=lambda progress: _silently(board, progress), warn=out.warn)
    elif sys.stderr.isatty():
        with _on_terminal(board) as watcher:
            yield watcher
    else:
        yield Watcher(report=_in_lines(board, out.note), warn=out.warn)


def _silently(board: Board, progress: StageProgress) -> None:
    board.hear(progress)


@contextmanager
def _on_terminal(board: Board) -> Iterator[Watcher]:
    """The list of stages at the bottom, redrawn as it changes, and above it what is to stay."""
    from rich.live import Live

    from surgery_cli.show.board import BoardView, lasting_line

    # Drawn by a thread of our own: rich's looks where the list begins and draws it in two steps, and lines that are
    # printed in between are lost.
    drawing = threading.Lock()

    def say(name: str, text: str) -> None:
        with drawing:
            live.console.print(lasting_line(name, text))

    def hear(progress: StageProgress) -> None:
        row = board.hear(progress)
        if progress.lasting and progress.state == "running":
            say(row.name, progress.text)

    live = Live(BoardView(board=board), console=console(sys.stderr), auto_refresh=False)
    with live, _every(SECONDS_BETWEEN_PICTURES, live.refresh, drawing):
        yield Watcher(report=hear, warn=lambda text: say("", f"warning: {text}"))


@contextmanager
def _every(seconds: float, act: Callable[[], None], lock: threading.Lock) -> Iterator[None]:
    """Call `act` again and again while the block runs, holding the lock."""
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


def _in_lines(board: Board, say: Callable[[str], None]) -> Report:
    """A line for each beginning and end of a stage and for each epoch; in between one now and then."""
    from surgery_cli.show.board import progress_words
    from surgery_cli.show.pieces import count

    total = len(board.rows)
    said: dict[int, float] = {}
    say(f"{board.title}: {count(total, 'stage')}, in {board.folder}")

    def hear(progress: StageProgress) -> None:
        begins = board.rows[progress.number - 1].state == "waiting"
        row, now = board.hear(progress), time.monotonic()
        head = f"[{progress.number:{len(str(total))}}/{total}] {row.name}"
        if progress.state == "cached":
            say(f"{head} ({row.kind}): there already")
        elif progress.state == "done":
            say(f"{head}: done, {progress.text}")
        elif begins:
            said[progress.number] = now
            say(f"{head} ({row.kind})")
        elif progress.lasting or now - said[progress.number] >= SECONDS_BETWEEN_LINES:
            said[progress.number] = now
            say(f"{head}: {progress.text if progress.lasting else progress_words(row)}")

    return hear

"""The stages of a run on a terminal: a sign for the state of each, a bar for the one that is running."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from surgery_cli.show.pieces import count
from surgery_cli.stopping import Stop

if TYPE_CHECKING:
    from surgery.stages import Stage, StageProgress

SIGNS = {
    "waiting": ("·", "dim"),
    "cached": ("✓", "dim green"),
    "done": ("✓", "green"),
    "stopped": ("■", "yellow"),
    "failed": ("✗", "bold red"),
}
"""A sign and its style for each state except `running`, whose sign is animated."""

_TURNING = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

BAR = 20
"""Columns of a bar."""

LINES_ABOVE = 10
"""Lines of a terminal that the list leaves free for the text above it."""

FEWEST = 5
"""The smallest number of stages that are listed, even on a terminal with fewer lines."""


@dataclass(kw_only=True)
class Row:
    """A stage in the list. `begun` and `seconds` are readings of a monotonic clock."""

    name: str
    kind: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    left: float | None = None
    text: str = ""
    begun: float = 0.0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Board:
    """The state of all stages of a run; a terminal shows it, and the message of an interrupted run quotes it."""

    title: str
    folder: str
    rows: list[Row]
    stop: Stop
    begun: float = field(default_factory=time.monotonic)
    ended: bool = False

    @property
    def current(self) -> Row | None:
        """The stage that is running, or that was running when the run stopped."""
        return next((row for row in self.rows if row.state not in ("waiting", "cached", "done")), None)

    @property
    def finished(self) -> int:
        return sum(row.state in ("cached", "done") for row in self.rows)

    def update(self, progress: StageProgress) -> Row:
        """Record the progress of a stage, and return its row."""
        row, now = self.rows[progress.number - 1], time.monotonic()
        if row.state == "waiting":
            row.begun = now
        row.state, row.left, row.seconds = progress.state, progress.seconds_left, now - row.begun
        if progress.total:
            row.done, row.total = progress.done, progress.total
        if not progress.lasting:
            row.text = progress.text
        return row

    def end(self, state: str) -> None:
        """Record how the run ended: `done`, `stopped` or `failed`."""
        self.ended = True
        if self.current is not None:
            self.current.state = state


def board_of(stages: Sequence[Stage], *, title: str, folder: str, stop: Stop) -> Board:
    """A board on which no stage has begun."""
    rows = [Row(name=stage.name, kind=stage.kind) for stage in stages]
    return Board(title=title, folder=folder, rows=rows, stop=stop)


@dataclass(frozen=True, kw_only=True)
class BoardView:
    """A board as rich draws it."""

    board: Board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        board = self.board
        finished = f"{board.finished} of {count(len(board.rows), 'stage')}"
        facts = f"  {board.folder}  {finished}, {clock(time.monotonic() - board.begun)}"
        yield Text(board.title, style="bold").append(facts, style="not bold dim")
        fit = max(FEWEST, console.size.height - LINES_ABOVE)
        first, last = (0, len(board.rows)) if board.ended else window(board.rows, fit)
        if first:
            yield Text(f"  ✓ {count(first, 'stage')} before", style="dim")
        yield from _lines(board.rows[first:last], options.max_width)
        if last < len(board.rows):
            yield Text(f"  · {count(len(board.rows) - last, 'stage')} more", style="dim")
        if all(row.state == "waiting" for row in board.rows) and not board.ended:
            yield Text("  reading the data", style="dim")
        if board.stop.asked and not board.ended:
            yield Text("  stopping as soon as no work is lost; Ctrl-C again stops at once", style="yellow")


def window(rows: Sequence[Row], fit: int) -> tuple[int, int]:
    """The range of rows that is listed if only `fit` rows fit: around the stage that is running."""
    if len(rows) <= fit:
        return 0, len(rows)
    current = next((index for index, row in enumerate(rows) if row.state not in ("cached", "done")), len(rows) - 1)
    first = min(max(0, current - fit // 2), len(rows) - fit)
    return first, first + fit


def lasting_line(name: str, text: str) -> Text:
    """A permanent line, such as that of an epoch."""
    line = Text(f"{name}  " if name else "", style="cyan")
    return line.append(text, style="yellow" if text.startswith("warning:") else "default")


def progress_words(row: Row) -> str:
    """How far a stage is: `43 %, 1:12 left, epoch 3 of 5`."""
    left = "" if row.left is None else f"{clock(row.left)} left"
    return ", ".join(word for word in (_percent(row), left, row.text) if word)


def clock(seconds: float) -> str:
    """`0:09`, `3:05`, `1:02:33`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """`0.3 s`, `31 s`, `3:05`."""
    if seconds >= 60:
        return clock(seconds)
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _lines(rows: Sequence[Row], width: int) -> Iterator[Text]:
    """A line for each row, in columns, truncated to the width of the terminal."""
    names, kinds = max(len(row.name) for row in rows), max(len(row.kind) for row in rows)
    for row in rows:
        # The sign of a running stage turns with the clock, so each picture of the list shows the next one.
        turning = _TURNING[int(time.monotonic() * 8) % len(_TURNING)]
        sign, color = SIGNS.get(row.state, (turning, "bold cyan"))
        line = Text("  ").append(sign, style=color)
        style = "dim" if row.state in ("waiting", "cached") else "bold" * (row.state == "running")
        line.append(f"  {row.name:{names}}", style=style).append(f"  {row.kind:{kinds}}  ", style="dim")
        line.append_text(_progress(row))
        if row.state == "running":
            line.append(f"  {row.text}", style="dim")
        line.truncate(width, overflow="ellipsis")
        yield line


def _progress(row: Row) -> Text:
    if row.state == "waiting":
        return Text("")
    if row.state == "cached":
        return Text("up to date, skipped", style="dim")
    if row.state != "running":
        return Text(duration(row.seconds))
    if not row.total:
        return Text(duration(time.monotonic() - row.begun))
    filled = round(BAR * row.done / row.total)
    bar = Text("━" * filled, style="cyan").append("─" * (BAR - filled), style="bright_black")
    left = "" if row.left is None else f"  {clock(row.left)} left"
    return bar.append(f" {_percent(row):>5}{left}", style="default")


def _percent(row: Row) -> str:
    return f"{100 * row.done // row.total} %" if row.total else ""

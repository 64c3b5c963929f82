"""Where a run is: each of its stages, and how far it has come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from surgery_cli.stopping import Stop

if TYPE_CHECKING:
    from surgery.recipe import Stage
    from surgery.recipe.running import StageProgress


@dataclass(kw_only=True)
class Row:
    """A stage in the list. `begun` and `seconds` are of a clock that only goes forward."""

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
    """All stages of a run and where it is; what is drawn on a terminal, and what an interrupted run tells of."""

    title: str
    folder: str
    rows: list[Row]
    stop: Stop
    begun: float = field(default_factory=time.monotonic)
    ended: bool = False

    @property
    def current(self) -> Row | None:
        """The stage that is running, or was when the run stopped."""
        return next((row for row in self.rows if row.state not in ("waiting", "cached", "done")), None)

    @property
    def finished(self) -> int:
        return sum(row.state in ("cached", "done") for row in self.rows)

    def hear(self, progress: StageProgress) -> Row:
        """Take in what a stage says."""
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
        """Say how the run ended: `done`, `stopped` or `failed`."""
        self.ended = True
        if self.current is not None:
            self.current.state = state


def board_of(stages: Sequence[Stage], *, title: str, folder: str, stop: Stop) -> Board:
    """A board on which no stage has begun."""
    rows = [Row(name=stage.name, kind=stage.kind) for stage in stages]
    return Board(title=title, folder=folder, rows=rows, stop=stop)

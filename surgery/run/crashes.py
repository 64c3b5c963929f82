"""Runs that died: a native crash leaves no exception, only a stage in the journal that began and did not end."""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from surgery.stages import RunFolder, Stage
from surgery.stages.folder import CRASH


@dataclass(frozen=True, kw_only=True)
class Death:
    """The stage in which the previous run of a folder died.

    `signal`: its description, such as `Segmentation fault`; empty for a process that was killed, and for a machine that
    stopped. `traceback`: of all threads, as Python wrote it.
    """

    stage: str
    signal: str
    traceback: str

    def warning(self, stage: Stage) -> str:
        """What a run says when it reaches the stage."""
        if not self.signal:
            return "the previous run ended in this stage without a word: killed, out of memory, or the machine stopped"
        engine = getattr(stage.parameters, "engine", None)
        remedy = ""
        if getattr(engine, "channels_last", False):
            remedy = f"; if it dies again, set engine = {{ channels_last = false }} in [stage.{stage.base}]"
        return f"the previous run died in this stage: {self.signal} (journal.jsonl has the traceback){remedy}"


def previous_death(folder: RunFolder) -> Death | None:
    """The stage that began in the previous run and did not end; None if there is none."""
    journal = folder.path / "journal.jsonl"
    if not journal.exists():
        return None
    begun = ""
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            begun = str(entry["stage"]) if entry["event"] == "start" else "" if entry["event"] in _ENDS else begun
        except (ValueError, KeyError, TypeError):
            continue  # the line that a dying process wrote may be cut
    if not begun:
        return None
    try:
        text = (folder.path / CRASH).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    first = text.partition("\n")[0]
    return Death(stage=begun, signal=first.removeprefix("Fatal Python error: "), traceback=text)


_ENDS = ("done", "failed", "stopped", "died", "end")


@contextmanager
def crashes_written(path: Path) -> Iterator[None]:
    """Have Python write the signal of a native crash during the block to `path`, which is removed if there is none.

    Nothing is written if the caller has enabled faulthandler.
    """
    path.unlink(missing_ok=True)  # of an earlier run
    if faulthandler.is_enabled():
        yield
        return
    try:
        with path.open("w", encoding="utf-8") as stream:
            faulthandler.enable(stream)
            try:
                yield
            finally:
                faulthandler.disable()
    finally:
        path.unlink(missing_ok=True)

"""What `print` shows of a run: at most a screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from surgery.run import Run
from surgery.stages import RunFolder, Summary
from surgery.stages.train import Notice


def test_run_is_its_summary(folder: Path, run: Callable[..., Any]) -> None:
    lines = repr(run(folder)).splitlines()
    assert lines[0] == f"Run in {folder}: 0 stages ran, 3 up to date"
    assert any(line.startswith("  std.best [robustness, 45 images]: natural ") for line in lines)


def test_long_summary_is_one_screen() -> None:
    summary = Summary(findings=tuple(Notice(text=f"{number} " + "x" * 500) for number in range(500)))
    found = Run(folder=RunFolder(path=Path("run")), summary=summary, ran=("a",) * 500, cached=("b",) * 500)
    lines = repr(found).splitlines()
    assert lines[0] == "Run in run: 500 stages ran, 500 up to date"
    assert lines[-1] == "and 461 more lines"
    assert len(lines) == 43
    assert max(map(len, lines)) < 200

"""Figures of reports: what a report does not draw any more is removed, what another one drew stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

REPORT = '\n[stage.report]\nkind = "report"\nstages = ["std"]\nfigures = ["png"]\n'


def drawn(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("figures/[!.]*"))


def test_figures_that_are_not_asked_for_any_more_are_removed(folder: Path, small: str, run: Callable[..., Any]) -> None:
    assert list(run(folder, small + REPORT).ran) == ["report"]
    assert drawn(folder) == ["std-history.png"]
    assert list(run(folder, small + REPORT.replace('["png"]', "[]")).ran) == ["report"]
    assert drawn(folder) == []


def test_two_reports_leave_each_others_figures(folder: Path, small: str, run: Callable[..., Any]) -> None:
    both = small + REPORT + REPORT.replace("stage.report", "stage.other")
    assert list(run(folder, both).ran) == ["report", "other"]
    assert drawn(folder) == ["std-history.png"]
    run(folder, both.replace('["png"]', "[]", 1))
    assert drawn(folder) == ["std-history.png"], "the other report shows it"
    run(folder, both.replace('["png"]', "[]"))
    assert drawn(folder) == []

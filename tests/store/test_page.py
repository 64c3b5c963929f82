"""docs/store.md: its scripts run one after the other, and it names every variable that stages write."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from surgery.stages.train import SERIES
from surgery.store import Coordinate, Group, Variable, write_groups

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
STAGES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "surgery" / "stages").glob("*.py"))


def test_scripts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("xarray", "h5netcdf", "netCDF4"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    first, *scripts = re.findall(r"```(?:python|py)\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(first, "store.md", "exec"), {"__name__": "documentation"})
    write_groups("results.h5", [attack_group("at", [1, 1, 0, 0]), attack_group("atc", [1, 0, 1, 1])])
    assert len(scripts) == 5
    for script in scripts:
        exec(compile(script, "store.md", "exec"), {"__name__": "documentation"})
    printed = capsys.readouterr().out
    assert '{"rules": "linearize"}' in printed
    assert re.search(r"pgd20 +0.5 +0.75\n", printed)
    assert "right only without the penalty: 1 and only with it: 2" in printed


def attack_group(model: str, correct: list[int]) -> Group:
    """What the page reads of a run."""
    right = np.array([[1] * len(correct), correct], dtype=bool)
    return Group(
        name=f"robustness@model-{model}",
        kind="attack",
        coordinates=(Coordinate(name="attack", values=("natural", "pgd20"), long_name="attack"),),
        variables=(
            Variable(name="accuracy", data=right.mean(1), dimensions=("attack",), long_name="accuracy"),
            Variable(name="correct", data=right, dimensions=("attack", "image"), long_name="is right"),
        ),
    )


@pytest.mark.parametrize("kind", ["Variable", "Coordinate"])
def test_every_name_is_documented(kind: str) -> None:
    names = re.findall(rf'{kind}\(\s*name="(\w+)"', STAGES)
    assert names
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_every_kind_and_series_is_documented() -> None:
    kinds = re.findall(r'\bGroup\(\s*name=name,\s*kind="(\w+)"', STAGES)
    assert len(kinds) == 8
    assert [kind for kind in kinds if f"### `{kind}`" not in PAGE] == []
    assert [name for name in SERIES if f"`{name}`" not in PAGE] == []

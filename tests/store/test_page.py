"""docs/store.md: its scripts run one after the other, and it names every variable that stages write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
STAGES = (ROOT / "surgery" / "store" / "stages.py").read_text(encoding="utf-8")


def test_scripts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("xarray", "h5netcdf", "netCDF4"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    scripts = re.findall(r"```(?:python|py)\n(.*?)```", PAGE, re.DOTALL)
    assert len(scripts) == 5
    for script in scripts:
        exec(compile(script, "store.md", "exec"), {"__name__": "documentation"})
    assert '{"rules": "linearize"}' in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["Variable", "Coordinate"])
def test_every_name_is_documented(kind: str) -> None:
    names = re.findall(rf'{kind}\(\s*name="(\w+)"', STAGES)
    assert names
    assert [name for name in names if f"`{name}`" not in PAGE] == []

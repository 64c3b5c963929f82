"""Provenance says how a result came about."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from surgery.store import Group, provenance, read_group, write_group


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_everything_that_is_known(tmp_path: Path) -> None:
    found = provenance(
        recipe="[recipe]\n",
        parameters={"epsilon": 8 / 255, "path": tmp_path},
        device="cuda:0",
        seeds={"torch": 2**64 - 1},
        data_digest="sha256:00",
        wall_seconds=1.5,
        folder=tmp_path,
    )
    assert json.loads(found["parameters"]) == {"epsilon": 8 / 255, "path": str(tmp_path)}
    assert json.loads(found["seeds"]) == {"torch": 2**64 - 1}
    assert "model-surgery" in json.loads(found["packages"])
    assert (found["recipe"], found["device"], found["data_digest"], found["wall_seconds"]) == (
        *("[recipe]\n", "cuda:0", "sha256:00", "1.500"),
    )
    finished = datetime.fromisoformat(found["finished"])
    assert finished.utcoffset() == datetime.now(UTC).utcoffset()
    assert "git_commit" not in found
    write_group(tmp_path, Group(name="g", kind="test", variables=(), provenance=found))
    assert dict(read_group(tmp_path, "g").provenance) == found


def test_number_of_threads_is_that_of_torch_and_unknown_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert provenance()["threads"] == str(torch.get_num_threads())
    monkeypatch.delitem(sys.modules, "torch")
    assert "threads" not in provenance()


def test_commit_and_whether_the_tree_was_clean(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert "git_commit" not in provenance(folder=tmp_path), "there is none yet"
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    found = provenance(folder=tmp_path)
    assert found["git_commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert found["git_clean"] == "yes"
    (tmp_path / "file").write_text("b")
    assert provenance(folder=tmp_path)["git_clean"] == "no"


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git_commit" not in provenance()


def test_command_line_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["surgery", "b\udcffd name"])
    assert provenance()["command_line"] == "surgery 'b\\udcffd name'"

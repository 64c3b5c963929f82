"""`surgery train`: only what training needs, in one process or in several."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from surgery.errors import InputError, SurgeryError
from surgery.store import list_groups, read_group
from surgery_cli.errors import StoppedError
from surgery_cli.main import app
from surgery_cli.processes import check_processes, launched
from surgery_cli.stopping import stoppable


def test_only_training_is_done_and_a_run_goes_on_with_the_rest(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", str(tiny), "-o", str(folder), "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["stages"] == {"ran": ["at"], "cached": []}
    assert found["training"][0]["best_epoch"] == 1
    assert Path(found["training"][0]["checkpoint"]).exists()
    planned = CliRunner().invoke(app, ["plan", str(tiny), "-o", str(folder), "--json"])
    assert [stage["state"] for stage in json.loads(planned.stdout)["stages"]] == ["cached"] + ["will run"] * 4


def test_stages_that_do_not_train_are_refused(tiny: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--recipe", str(tiny), "--stage", "hierarchy"])
    assert result.exit_code == 2
    assert "training stages are at" in result.stderr


def test_a_dry_run_shows_the_training_stages(tiny: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tiny), "-o", str(tmp_path / "run"), "--dry-run", "--json"])
    assert [stage["name"] for stage in json.loads(result.stdout)["stages"]] == ["at"]
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_needed_once(tiny: Path) -> None:
    for words, message in (([], "expected a recipe"), ([str(tiny), "--recipe", "quickstart"], "was given twice")):
        result = CliRunner().invoke(app, ["train", *words])
        assert result.exit_code == 2
        assert message in result.stderr


def test_two_processes_train_what_one_does(ran: Any, tmp_path: Path) -> None:
    """In float32, where the order of sums is all that differs."""
    words = ["train", str(ran.recipe), "-o", str(tmp_path), "--device", "cpu", "--nproc", "2"]
    done = subprocess.run([sys.executable, "-m", "surgery_cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1 of 1") == 1
    assert done.stdout.count("Trained") == 1
    assert [group.name for group in list_groups(tmp_path)] == ["at"]
    one, two = read_group(ran.folder, "at"), read_group(tmp_path, "at")
    assert np.allclose(one["loss"], two["loss"], rtol=1e-4)
    events = [json.loads(line)["event"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert events == ["run", "start", "done", "end"]


def test_failure_of_another_process_is_told() -> None:
    with pytest.raises(SurgeryError, match=r"process 2 of 2 has failed.*\nerror: .*--no-such-option"):
        _wait_for_the_other(["train", "--no-such-option"])


def _wait_for_the_other(words: list[str]) -> None:
    """Be the first of two processes, until there is a reason to stop."""
    with launched(words, 2), stoppable(lambda: None) as stop:
        deadline = time.monotonic() + 60
        while not stop.asked and time.monotonic() < deadline:
            time.sleep(0.05)
        raise StoppedError("stopped")


def test_processes_need_their_own_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_processes(2, None)
    check_processes(8, "cpu")
    with pytest.raises(InputError, match="GPUs here: 2"):
        check_processes(3, None)
    with pytest.raises(InputError, match="its own GPU"):
        check_processes(2, "cuda:1")

"""`surgery run` and `surgery plan`: what they print, what they write, and how a run stops and resumes."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group
from typer.testing import CliRunner, Result

from surgery.recipe import RecipeError
from surgery.stages import Summary
from surgery.stages.attack import FailedCheck
from surgery.stages.train import Notice
from surgery.store import read_group
from surgery_cli.errors import ExitCode, StoppedError, problem
from surgery_cli.main import app
from surgery_cli.show.run import summary_view
from surgery_cli.stopping import stoppable


def surgery(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def data(*words: object, code: int = 0) -> Any:
    return json.loads(surgery(*words, "--json", code=code).stdout)


# A run to its end


def test_run_ends_with_what_it_found(ran: Any) -> None:
    text = ran.result.stdout
    for said in ("Accuracy  on 90 images", "Block contrast", "Superclasses found", "A1, A2, A3", "fgsm", "at.best"):
        assert said in text
    assert str(ran.folder / "results.h5") in text
    assert f"surgery results show {ran.folder} robustness" in text


def test_progress_is_words(ran: Any) -> None:
    lines = ran.result.stderr.splitlines()
    assert "[1/5] at (train)" in lines
    assert any(line.startswith("[1/5] at: epoch 1 of 1: loss ") for line in lines)
    assert any(line.startswith("[5/5] report: done, ") for line in lines)


def test_commands_that_look_further_work(ran: Any) -> None:
    commands = [line.split("  ")[1] for line in ran.result.stdout.splitlines() if line.startswith("  surgery ")]
    assert len(commands) == 3
    for command in commands:
        surgery(*shlex.split(command)[1:])


def test_second_run_has_nothing_to_do_and_says_it_as_data(ran: Any) -> None:
    found = data("run", ran.recipe, "-o", ran.folder, "--quiet")
    assert found["stages"] == {
        "ran": [],
        "cached": ["at", "at_linear", "hierarchy", "robustness", "report"],
    }
    assert {row["attack"] for row in found["verdict"]["accuracies"]} == {"natural", "fgsm", "pgd", "worst case"}
    assert found["verdict"]["superclasses"][0]["groups"]
    assert found["folder"] == str(ran.folder)
    assert found["store"] == str(ran.folder / "results.h5")
    assert found["figures"] == []


def test_quiet_is_only_what_was_found(ran: Any) -> None:
    result = surgery("run", ran.recipe, "-o", ran.folder, "--quiet")
    assert result.stderr == ""
    assert "Accuracy" in result.stdout
    assert "More" not in result.stdout


BRIGHTEN = """\
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Brighten:
    epsilon: float
    norm: str = "Linf"

    def __call__(self, target, images, labels, generator):
        yield (images + self.epsilon).clamp(0, 1)
"""


def test_imports_are_named_unless_quiet(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brightening.py").write_text(BRIGHTEN)
    mine = 'stage.robustness.attacks.mine={ kind = "brightening:Brighten", epsilon = "8/255" }'
    words = ("run", tiny, "-o", tmp_path / "run", "--device", "cpu", "--stage", "at", "--set", mine)
    assert f"imports brightening:Brighten ({tmp_path / 'brightening.py'})" in surgery(*words).stderr
    assert surgery(*words, "--quiet").stderr == ""


def test_what_went_wrong_is_said_last() -> None:
    failed, noticed = FailedCheck(text="robustness: range: pixels above 1"), "at: epoch 7: the robust accuracy fell"
    found = Summary(findings=(failed, Notice(text=noticed)))
    text = Console(width=100, file=io.StringIO(), record=True)
    text.print(Group(*summary_view(found, verbose=False)))
    assert [line.rstrip() for line in text.export_text().splitlines() if line] == [
        "Noticed in training",
        "  at: epoch 7: the robust accuracy fell",
        "Checks that failed",
        "  robustness: range: pixels above 1",
    ]


# What a run would do


def test_plan_before_and_after(ran: Any, tmp_path: Path) -> None:
    before = data("plan", ran.recipe, "-o", tmp_path / "nothing")
    assert [stage["state"] for stage in before["stages"]] == ["will run"] * 5
    assert before["passes"] > 1000
    assert not (tmp_path / "nothing").exists()
    after = data("plan", ran.recipe, "-o", ran.folder)
    assert [stage["state"] for stage in after["stages"]] == ["cached"] * 5


def test_plan_says_why(ran: Any) -> None:
    change = ("--set", "stage.robustness.attacks.pgd.steps=3")
    text = surgery("plan", ran.recipe, "-o", ran.folder, *change).stdout
    assert "attacks.pgd.steps 2 -> 3" in text
    assert "2 of 5 stages will run" in text
    assert 'attack = { epsilon = "8/255", steps = 2, step_size = "4/255" }' in text
    assert "momentum" not in text
    assert "momentum = 0.9" in surgery("plan", ran.recipe, "-o", ran.folder, "--verbose").stdout
    assert surgery("run", ran.recipe, "-o", ran.folder, *change, "--dry-run").stdout == text


def test_plan_of_some_stages(ran: Any) -> None:
    found = data("plan", ran.recipe, "-o", ran.folder, "--stage", "at_linear")
    assert [stage["name"] for stage in found["stages"]] == ["at", "at_linear"]


def test_plan_without_data(tiny: Path, tmp_path: Path) -> None:
    change = ("--set", "data={name='cifar10'}", "--set", f"data.root={tmp_path}")
    found = data("plan", tiny, *change)
    assert [stage["state"] for stage in found["stages"]] == ["will run"] * 5
    assert found["data"]["missing"]
    assert found["passes"] is None
    assert "data were not loaded" in surgery("plan", tiny, *change).stderr


# What is wrong with what was given

SIX = """\
[recipe]
seed = -1

[data]
name = "plantd"

[model]
architecture = "convnett"

[stage.at]
kind = "train"
objective = { kind = "pgd", attack = { epsilon = "8/255", steps = 2.5, step_size = "4/255" } }
epochs = 1
batch_sise = 100
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.at_linear]
kind = "extract"
model = "att"
"""


@pytest.mark.parametrize("command", ["run", "plan"])
def test_six_mistakes_in_one_go(command: str, tmp_path: Path) -> None:
    path = tmp_path / "six.toml"
    path.write_text(SIX)
    text = surgery(command, path, code=2).stderr
    for place in ("2:8", "5:8", "8:16", "12:67", "14:1", "19:9"):
        assert f"{path}:{place}: " in text
    assert text.startswith("error: 6 problems\n")
    assert text.count("did you mean") == 4
    found = data(command, path, code=2)["error"]
    assert found["type"] == "RecipeError"
    assert [item["line"] for item in found["problems"]] == [2, 5, 8, 12, 14, 19]
    assert found["problems"][1]["hint"] == "did you mean 'planted'?"


def test_errors_of_set_name_the_flag(tiny: Path) -> None:
    flag = "stage.at.epochs=two"
    assert f"--set {flag}: epochs: expected an integer" in surgery("run", tiny, "--set", flag, code=2).stderr
    [found] = data("run", tiny, "--set", flag, code=2)["error"]["problems"]
    assert (found["flag"], found["file"]) == (f"--set {flag}", None)
    assert "--set epochs: expected KEY=VALUE" in surgery("run", tiny, "--set", "epochs", code=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quickstrt"], "did you mean 'quickstart'?"),
        (["nowhere.toml"], "nowhere.toml: no such file"),
        (["quickstart", "--stage", "atx"], "unknown stage 'atx'"),
        (["quickstart", "--device", "warp"], "--device warp"),
    ],
)
def test_what_is_not_there_is_said(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in surgery("run", *words, code=2).stderr
    assert not list(tmp_path.iterdir())


# Stopping


def test_interrupted_run_says_how_to_go_on_and_does(tiny: Path, tmp_path: Path) -> None:
    words = ["run", str(tiny), "-o", str(tmp_path / "run"), "--set", "stage.at.epochs=6", "--device", "cpu"]
    running = subprocess.Popen(
        [sys.executable, "-m", "surgery_cli", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "epoch 1 of 6:" in line:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "stopped in stage at (epoch " in err
    command = shlex.split(err.split("to resume: ")[1])
    assert (command[0], sorted(command[1:])) == ("surgery", sorted(words))
    assert [entry["event"] for entry in _journal(tmp_path / "run")][-1] == "stopped"
    surgery(*command[1:])
    group = read_group(tmp_path / "run", "at")
    assert group.sizes["epoch"] == 6
    assert "resumed after" in group.provenance["computed_with"]


def _journal(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_and_second_interrupts(number: signal.Signals) -> None:
    said: list[str] = []
    before = signal.getsignal(number)
    with stoppable(lambda: said.append("stopping")) as stop:
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert said == ["stopping"]
    assert signal.getsignal(number) is before


def test_errors_have_their_codes() -> None:
    stopped = problem(StoppedError("stopped", hint="go on"))
    assert (stopped.type, stopped.code, stopped.hint) == ("Interrupted", ExitCode.INTERRUPTED, "go on")
    assert problem(RecipeError([])).code == ExitCode.BAD_INPUT

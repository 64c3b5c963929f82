"""A run that died: the next one says in which stage, by which signal, and what to try."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery.run import differences

DIE = """\
import os, signal, sys
from surgery.recipe import load_recipe
from surgery.run import run_recipe

def listen(progress):
    if (progress.stage, progress.state) == (sys.argv[3], "running") and progress.done >= 2:
        os.kill(os.getpid(), int(sys.argv[4]))

run_recipe(load_recipe(sys.argv[1]), sys.argv[2], device="cpu", listener=listen)
"""

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs signals")


def die(folder: Path, text: str, stage: str, number: int) -> None:
    recipe = folder.parent / "small.toml"
    recipe.write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", DIE, str(recipe), str(folder), stage, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -number, done.stderr


@POSIX
@pytest.mark.parametrize(
    ("stage", "number", "said"),
    [
        ("std", 11, "died in this stage: Segmentation fault (journal.jsonl has the traceback); if it dies again, set "
                    "engine = { channels_last = false } in [stage.std]"),
        ("robustness", 6, "died in this stage: Aborted (journal.jsonl has the traceback); if it dies again, set "
                          "engine = { channels_last = false } in [stage.robustness]"),
        ("robustness", 9, "ended in this stage without a word: killed, out of memory, or the machine stopped"),
    ],
)  # fmt: skip
def test_next_run_names_stage_and_signal(
    tmp_path: Path, small: str, undisturbed: Path, run: Callable[..., Any], stage: str, number: int, said: str
) -> None:
    folder = tmp_path / "run"
    die(folder, small, stage, number)
    heard: list[Any] = []
    run(folder, listener=heard.append)
    warnings = [(item.stage, item.text, item.lasting) for item in heard if item.text.startswith("warning: the prev")]
    assert warnings == [(stage, f"warning: the previous run {said}", True)]
    [entry] = [entry for entry in journal(folder) if entry["event"] == "died"]
    assert (entry["stage"], bool(entry["traceback"])) == (stage, number != 9)
    assert differences(folder, undisturbed) == ()
    assert not list(folder.glob(".crash*"))
    again: list[Any] = []
    run(folder, listener=again.append)
    assert {item.state for item in again} == {"cached"}, "it is said once"


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]


def test_cut_journal_is_no_obstacle(folder: Path, run: Callable[..., Any]) -> None:
    with (folder / "journal.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"event": "start"}\n[1]\n{"event": "sta')
    assert run(folder).ran == ()


def test_another_number_of_threads_is_said_where_it_matters(folder: Path, run: Callable[..., Any]) -> None:
    heard: list[Any] = []
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        run(folder, listener=heard.append)
        assert {item.state for item in heard} == {"cached"}
        (folder / "graphs" / "graph.safetensors").unlink()
        run(folder, listener=heard.append)
    finally:
        torch.set_num_threads(before)
    text = f"computed by {before} threads, this run uses {before + 1}: the last bits may differ"
    assert [item.text for item in heard if item.text.startswith("warning")] == [f"warning: finished stages were {text}"]

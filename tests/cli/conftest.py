"""A recipe that runs in a few seconds, and its run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from surgery_cli.main import app

TINY = """\
[recipe]
description = "a few seconds"

[data]
name = "planted"
train_size = 300
test_size = 90

[model]
architecture = "convnet"
arguments = { width = 8 }

[stage.at]
kind = "train"
objective = { kind = "pgd", attack = { epsilon = "8/255", steps = 2, step_size = "4/255" } }
epochs = 1
batch_size = 100
schedule = { kind = "constant", learning_rate = 0.05 }
engine = { precision = "float32" }

[stage.at_linear]
kind = "extract"
model = "at"

[stage.hierarchy]
kind = "cluster"
map = "at_linear"
superclasses = 3

[stage.robustness]
kind = "attack"
model = "at"
attacks.fgsm = { kind = "fgsm", epsilon = "8/255" }
attacks.pgd = { epsilon = "8/255", steps = 2, step_size = "4/255" }

[stage.report]
kind = "report"
figures = []
"""


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> Iterator[None]:
    """Also where the tests were started in the background, by a shell that has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A recipe that was run: its file, its folder, and what the command printed."""

    recipe: Path
    folder: Path
    result: Result


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The recipe, in a folder of its own."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of the recipe, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("ran")
    recipe = folder / "tiny.toml"
    recipe.write_text(TINY)
    words = ["run", str(recipe), "-o", str(folder / "run"), "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return Ran(recipe=recipe, folder=folder / "run", result=result)

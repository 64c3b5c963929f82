"""A recipe that runs in a second or two, and its run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from surgery.recipe import load_recipe
from surgery.run import Run, run_recipe

SMALL = """\
[data]
name = "planted"
train_size = 90
test_size = 45

[model]
architecture = "convnet"
arguments = { width = 4 }

[stage.std]
kind = "train"
objective = { kind = "standard" }
epochs = 1
batch_size = 30
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.graph]
kind = "linearize"
model = "std"

[stage.robustness]
kind = "attack"
model = "std"
batch_size = 15
attacks.fgsm = { kind = "fgsm", epsilon = "8/255" }
"""


@pytest.fixture(scope="session")
def small() -> str:
    """The text of the recipe."""
    return SMALL


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """A function that runs a recipe in a folder."""

    def run(folder: Path, text: str = SMALL, **options: object) -> Run:
        path = tmp_path / "small.toml"
        path.write_text(text, encoding="utf-8")
        return run_recipe(load_recipe(path), folder, device="cpu", **options)  # pyright: ignore[reportArgumentType]

    return run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, which is not to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    run_recipe(load_recipe(folder / "small.toml"), folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(undisturbed, tmp_path / "run")

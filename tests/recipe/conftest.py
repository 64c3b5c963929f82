"""Recipes to be broken, and what loads them."""

from pathlib import Path

import pytest

from surgery.recipe import load_recipe

CHAIN = """\
[recipe]
description = "from data to hierarchy and back"
seed = 3

[data]
name = "planted"
train_size = 600

[model]
architecture = "convnet"
arguments = { width = 8 }

[stage.at]
kind = "train"
objective = { kind = "pgd", attack = { norm = "Linf", epsilon = "8/255", steps = 10, step_size = "2/255" } }
epochs = 20
optimizer = { momentum = 0.9, weight_decay = 2e-4 }
schedule = { kind = "multi-step", learning_rate = 0.1, milestones = [7, 9] }
select = { attack = { epsilon = "8/255", steps = 20, step_size = 0.003 }, every = 2 }

[stage.at_linear]
kind = "extract"
model = "at"

[stage.hierarchy]
kind = "cluster"
map = "at_linear"
superclasses = 3

[stage.atc]
kind = "train"
epochs = 20
schedule = { kind = "constant", learning_rate = 0.1 }

[stage.atc.objective]
kind = "trades"
beta = 6
attack = { epsilon = "8/255", steps = 10, step_size = "2/255" }
cluster = { hierarchy = "hierarchy", weight = 0.1 }

[stage.robustness]
kind = "attack"
model = "at.last"
attacks.fgsm = { kind = "fgsm", epsilon = "8/255" }
attacks.cw = { kind = "cw", epsilon = "8/255", steps = 30, step_size = 0.003 }

[stage.confusion]
kind = "confusion"
model = "atc"
attack = { epsilon = "8/255", steps = 20, step_size = 0.003 }
targeted = true

[stage.report]
kind = "report"
"""


@pytest.fixture(scope="session")
def chain() -> str:
    """A recipe with most kinds of stages."""
    return CHAIN


@pytest.fixture
def load(tmp_path: Path):
    """A function that writes TOML to a file and loads it, with overrides."""

    def write_and_load(text=CHAIN, overrides=(), name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides)

    return write_and_load

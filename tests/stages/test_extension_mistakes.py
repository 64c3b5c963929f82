"""Mistakes in a user's extensions are found before the first stage runs."""

import sys
from pathlib import Path

import pytest

from surgery.errors import InputError
from surgery.plugins import locate
from surgery.recipe import RecipeError, load_recipe, stage_keys

MODULE = """\
from dataclasses import dataclass
from typing import ClassVar

from surgery.stages import ModelStage


class Probe(ModelStage):
    def run(self, context):
        return None


class Unfinished(ModelStage):
    pass


@dataclass(frozen=True, kw_only=True)
class Shift:
    epsilon: float
    norm: str = "Linf"
    known: ClassVar[int] = 3
"""

RECIPE = """\
[data]
name = "planted"

[model]
architecture = "convnet"

[stage.net]
kind = "train"
objective = { kind = "standard" }
epochs = 1
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.map]
kind = "extract"
model = "net"

[stage.probe]
kind = "mistakes_for_tests:Probe"
model = "net"
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    Path(tmp_path / "mistakes_for_tests.py").write_text(MODULE)
    Path(tmp_path / "mine.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mistakes_for_tests", None)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nett", "no stage is called 'nett'; did you mean 'net'"),
        ("net.bets", "the checkpoints of a train stage are best and last"),
        ("map", "is an extract stage; expected a train stage"),
    ],
)
def test_a_wrong_reference_of_an_extension_is_found_when_its_class_is_imported(model, message):
    recipe = load_recipe("mine.toml", [("stage.probe.model", model)])
    with pytest.raises(RecipeError, match=message):
        recipe.imported()


def test_a_stage_kind_without_all_methods_is_refused():
    recipe = load_recipe("mine.toml", [("stage.probe.kind", "mistakes_for_tests:Unfinished")])
    with pytest.raises(InputError, match="run is not defined"):
        recipe.imported()


def test_the_signature_of_a_dataclass_is_read_from_its_fields():
    found = locate("mistakes_for_tests:Shift").signature
    assert found is not None
    assert (found.required, found.optional, found.open_ended) == (("epsilon",), ("norm",), False)


def test_the_content_of_a_file_that_an_extension_names_is_part_of_its_key(tmp_path):
    recipe = load_recipe("mine.toml", [("stage.probe", '{kind = "mistakes_for_tests:Probe", file = "weights.bin"}')])
    keys = []
    for content in ("one", "two", "one"):
        (tmp_path / "weights.bin").write_text(content)
        keys.append(stage_keys(recipe, "digest")["probe"])
    assert keys[0] == keys[2] != keys[1]

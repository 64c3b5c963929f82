"""Mistakes in a user's extensions are found before the first stage runs."""

import sys
from pathlib import Path

import pytest

from surgery.errors import InputError
from surgery.plugins import locate
from surgery.recipe import RecipeError, load_recipe, stage_keys
from surgery.run import run_recipe

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
batch_size = 30
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
        ("nett", "model: unknown stage 'nett'; did you mean 'net'"),
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


def runnable(tmp_path, module, stage):
    Path(tmp_path / "mistakes_for_tests.py").write_text(module)
    sizes = 'name = "planted"\ntrain_size = 90\ntest_size = 18\nvalidation = 0.1\n'
    text = RECIPE[: RECIPE.index("[stage.map]")].replace('name = "planted"\n', sizes)
    text = text.replace('architecture = "convnet"', 'architecture = "convnet"\narguments = { width = 4 }')
    Path(tmp_path / "mine.toml").write_text(text + stage)
    return load_recipe("mine.toml")


PROBE = "from surgery.stages import ModelStage\n\nclass Probe(ModelStage):\n    def run(self, context):\n        {}\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", r"stage probe: expected run\(\) to return a surgery\.store\.Group, got NoneType"),
        (
            "return {}['inside']",
            r"stage probe: mistakes_for_tests:Probe: .*mistakes_for_tests\.py:5 raised KeyError: 'ins",
        ),
    ],
)
def test_a_mistake_inside_a_users_stage_names_the_stage_and_the_line(tmp_path, body, message):
    recipe = runnable(tmp_path, PROBE.format(body), '[stage.probe]\nkind = "mistakes_for_tests:Probe"\nmodel = "net"\n')
    with pytest.raises(InputError, match=message):
        run_recipe(recipe, tmp_path / "run")


ATTACK = """\
class Shift:
    norm = "Linf"

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def __call__(self, target, images, labels, generator):
        raise ValueError("my own problem")
"""


ROBUSTNESS = """\
[stage.rob]
kind = "attack"
model = "net"
attacks.a = {{ kind = "mistakes_for_tests:Shift", epsilon = {} }}
"""


def test_a_mistake_inside_a_users_attack_names_the_line(tmp_path):
    recipe = runnable(tmp_path, ATTACK, ROBUSTNESS.format("0.1"))
    with pytest.raises(InputError, match=r"stage rob: .*mistakes_for_tests\.py:8 raised ValueError: my own problem"):
        run_recipe(recipe, tmp_path / "run")


def test_a_wrong_value_for_a_users_attack_is_found_before_the_first_stage(tmp_path):
    recipe = runnable(tmp_path, ATTACK, ROBUSTNESS.format('"abc"'))
    with pytest.raises(RecipeError, match=r"mine\.toml:\d+:\d+: .*epsilon: expected a number .* got 'abc'"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "results.h5").exists()


def test_files_of_a_users_stage_are_relative_to_the_recipe(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.pt").write_bytes(b"1")
    text = RECIPE[: RECIPE.index("[stage.map]")] + '[stage.p]\nkind = "mistakes_for_tests:Probe"\nfile = "weights.pt"\n'
    (tmp_path / "sub" / "mine.toml").write_text(text)
    before = stage_keys(load_recipe("sub/mine.toml"), "d")["p"]
    assert load_recipe("sub/mine.toml").stage("p").parameters.model_extra["file"] == str(tmp_path / "sub/weights.pt")
    (tmp_path / "sub" / "weights.pt").write_bytes(b"2")
    assert stage_keys(load_recipe("sub/mine.toml"), "d")["p"] != before


def test_the_signature_of_a_decorated_function_is_unknown(tmp_path):
    Path(tmp_path / "mistakes_for_tests.py").write_text("import functools\n\n@functools.cache\ndef make(size): ...\n")
    assert locate("mistakes_for_tests:make").signature is None


def test_a_package_that_registers_a_name_of_surgery_changes_no_key(monkeypatch):
    text = RECIPE[: RECIPE.index("[stage.map]")] + '[stage.rob]\nkind = "attack"\nmodel = "net"\n'
    Path("mine.toml").write_text(text + 'attacks.a = { kind = "fgsm", epsilon = 0.1 }\n')
    before = stage_keys(load_recipe("mine.toml"), "d")
    names = {"architectures": "convnet", "datasets": "planted", "attacks": "fgsm", "stages": "train"}
    registered = {f"surgery.{group}": {name: "mistakes_for_tests:Shift"} for group, name in names.items()}
    monkeypatch.setattr("surgery.plugins._registered", lambda: registered)
    recipe = load_recipe("mine.toml")
    assert stage_keys(recipe, "d") == before
    assert recipe.extensions() == ()

"""Stage kinds of users in a recipe: references, repetitions, files, and nothing imported before a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from surgery.errors import InputError
from surgery.models import build, save_checkpoint
from surgery.models.checkpoint import Checkpoint
from surgery.recipe import Recipe, RecipeError, load_recipe, preview_run, stage_keys
from surgery.run import Run, run_recipe
from surgery.stages.attack import AttackStage
from surgery_cli.main import app

KIND = '''\
from typing import ClassVar

import numpy as np

from surgery.stages import Context, StageTable
from surgery.store import Group, Variable


class Probe(StageTable):
    """A number and a file."""

    files = ("probes/{}.txt",)
    mark = "probes/.{}.key.json"

    about: str = ""
    scale: float = 1.0

    def run(self, context: Context) -> Group:
        context.claim()
        (context.folder.path / "probes" / f"{context.name}.txt").write_text(str(self.scale))
        data = np.array([self.scale])
        variable = Variable(name="scale", data=data, dimensions=("number",), long_name="the number")
        return Group(name=context.name, kind="probe", variables=(variable,), provenance=context.provenance())


class Unmarked(Probe):
    mark = ""
'''

DATA = '[data]\nname = "planted"\ntrain_size = 90\ntest_size = 18\nvalidation = 0.1\n\n'
NETWORK = '[model]\narchitecture = "convnet"\narguments = { width = 4 }\n\n[stage.net]\nkind = "train"\n' + (
    'objective = { kind = "standard" }\nepochs = 1\nschedule = { kind = "constant", learning_rate = 0.05 }\n\n'
)
PROBE = '[stage.probe]\nkind = "probes_for_tests:Probe"\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "probes_for_tests.py"
    path.write_text(KIND)
    monkeypatch.chdir(tmp_path)
    yield path
    sys.modules.pop("probes_for_tests", None)


def recipe_of(text: str) -> Recipe:
    Path("mine.toml").write_text(text)
    return load_recipe("mine.toml")


def run(text: str) -> Run:
    return run_recipe(recipe_of(text), "run", device="cpu")


def test_loading_keys_and_previews_import_nothing(module: Path) -> None:
    module.write_text("raise AssertionError('imported')\n" + KIND)
    recipe = recipe_of(DATA + PROBE + "scale = 2.0\n")
    assert [stage.state for stage in preview_run(recipe, {}, "digest")] == ["will run"]
    assert [extension.path for extension in recipe.extensions()] == [module]
    before = stage_keys(recipe, "digest")
    module.write_text(module.read_text() + "\n# changed\n")
    assert stage_keys(recipe, "digest")["probe"] != before["probe"]
    assert "probes_for_tests" not in sys.modules


def test_a_stage_whose_files_are_missing_runs_again(module: Path) -> None:
    text = DATA + PROBE
    assert run(text).ran == ("probe",)
    assert run(text).cached == ("probe",)
    Path("run/probes/probe.txt").unlink()
    assert run(text).ran == ("probe",)
    assert Path("run/probes/probe.txt").read_text() == "1.0"


def test_files_without_a_mark_are_refused(module: Path) -> None:
    with pytest.raises(InputError, match="needs a `mark`"):
        run(DATA + PROBE.replace(":Probe", ":Unmarked"))


def test_a_stage_is_repeated_for_its_own_keys_and_those_of_its_inputs(module: Path) -> None:
    matrix = '\n[matrix]\n"stage.probe.scale" = [1.0, 2.0]\n"stage.net.epochs" = [1, 2]\n'
    recipe = recipe_of(DATA + NETWORK + PROBE + 'about = "net.last"\nscale = 1.0\n' + matrix)
    found = {stage.name: [str(item) for item in stage.inputs.values()] for stage in recipe.stages}
    assert found == {
        "net@epochs-1": [],
        "net@epochs-2": [],
        "probe@scale-1.0+epochs-1": ["net@epochs-1.last"],
        "probe@scale-1.0+epochs-2": ["net@epochs-2.last"],
        "probe@scale-2.0+epochs-1": ["net@epochs-1.last"],
        "probe@scale-2.0+epochs-2": ["net@epochs-2.last"],
    }


def test_repetitions_run_with_their_own_values(module: Path) -> None:
    done = run(DATA + PROBE + '\n[matrix]\n"stage.probe.scale" = [1.0, 2.5]\n')
    assert done.ran == ("probe@scale-1.0", "probe@scale-2.5")
    assert Path("run/probes/probe@scale-2.5.txt").read_text() == "2.5"


@pytest.mark.parametrize("about", ["probe", "summary"])
def test_a_text_that_is_the_name_of_the_stage_itself_or_of_a_report_is_no_reference(module: Path, about: str) -> None:
    recipe = recipe_of(DATA + PROBE + f'about = "{about}"\n\n[stage.summary]\nkind = "report"\n')
    assert recipe.stage("probe").inputs == {}
    assert [str(item) for item in recipe.stage("summary").inputs.values()] == ["probe"]


def test_keys_that_the_class_does_not_have_are_located_before_any_stage_runs(module: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.toml:9:1: unknown key 'scal'"):
        run(DATA + PROBE + "scal = 2.0\n")
    assert not Path("run/results.h5").exists()


def test_a_name_that_a_package_registers_is_a_kind(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"surgery.stages": {"probe": "probes_for_tests:Probe"}}
    monkeypatch.setattr("surgery.plugins._registered", lambda: entries)
    assert run(DATA + '[stage.here]\nkind = "probe"\nscale = 3.0\n').ran == ("here",)
    with pytest.raises(RecipeError, match="unknown stage kind 'prob'; did you mean 'probe'"):
        recipe_of(DATA + '[stage.here]\nkind = "prob"\n')


def test_the_code_that_a_model_file_names_is_not_run(module: Path) -> None:
    module.write_text("raise AssertionError('imported')\ndef make(num_classes):\n    pass\n")
    model = build("convnet", width=4, num_classes=9)
    named = Checkpoint(architecture="probes_for_tests:make", arguments={"num_classes": 9}, state=model.state_dict())
    save_checkpoint("model.safetensors", named)
    text = DATA + '[stage.map]\nkind = "extract"\nfile = "model.safetensors"\n'
    with pytest.raises(InputError, match="probes_for_tests:make"):
        run(text)
    assert "probes_for_tests" not in sys.modules


GATHERING = (
    KIND
    + """

class Table(Probe):
    gathers = True

    def run(self, context: Context) -> Group:
        context.claim()
        (context.folder.path / "probes" / f"{context.name}.txt").write_text("")
        names = tuple(sorted(finished.stage.name for finished in context.reads))
        variable = Variable(name="count", data=np.array([len(names)]), dimensions=("number",), long_name="stages")
        return Group(
            name=context.name,
            kind="table",
            variables=(variable,),
            attributes={"stages": " ".join(names)},
            provenance=context.provenance(),
        )
"""
)


@pytest.mark.parametrize("named", ["", 'about = "probe"\n'])
def test_a_kind_that_gathers_reads_all_repetitions_of_its_inputs(module: Path, named: str) -> None:
    module.write_text(GATHERING)
    stages = PROBE + "seed = 0\n\n[stage.table]\nkind = 'probes_for_tests:Table'\n" + named
    text = DATA + stages + "\n[matrix]\n'stage.probe.scale' = [1.0, 2.0]\n"
    recipe = recipe_of(text)
    assert [stage.name for stage in recipe.stages] == ["probe@scale-1.0", "probe@scale-2.0", "table"]
    assert "probes_for_tests" not in sys.modules
    found = run(text).folder.read("table")
    assert found.attributes["stages"] == "probe@scale-1.0 probe@scale-2.0"


def test_nothing_can_vary_in_a_kind_that_gathers(module: Path) -> None:
    module.write_text(GATHERING)
    with pytest.raises(RecipeError, match="nothing in it can vary"):
        recipe_of(
            DATA + PROBE + "[stage.table]\nkind = 'probes_for_tests:Table'\n[matrix]\n'stage.table.scale' = [1.0]\n"
        )


SECTION = (
    KIND
    + """
from surgery.stages import Finding, Grid, Section

class Mine(Finding):
    section = Section(
        key="accuracies",
        title="Mine",
        line_title="Mine",
        place=1,
        lines=lambda found: [],
        grid=lambda found: Grid(rows=()),
    )
"""
)


def test_a_section_with_a_key_of_another_section_is_refused_before_anything_runs(module: Path) -> None:
    key = AttackStage.sections[0].key
    module.write_text(SECTION.replace('"accuracies"', f'"{key}"'))
    with pytest.raises(InputError, match=f"the section of Mine has the key '{key}' of one of surgery's own"):
        run(DATA + PROBE)
    assert not Path("run/results.h5").exists()


MADE = """
print("imported")

def data():
    print("loading")
    from surgery.data import planted
    return planted(train_size=90, test_size=18)
"""


def test_what_code_of_a_user_prints_is_not_part_of_the_results(module: Path) -> None:
    module.write_text(KIND.replace("context.claim()", "context.claim()\n        print('running')") + MADE)
    Path("mine.toml").write_text('[data]\nname = "probes_for_tests:data"\n\n' + PROBE)
    result = CliRunner().invoke(app, ["run", "mine.toml", "-o", "run", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stages"]["ran"] == ["probe"]
    assert all(word in result.stderr for word in ("imported", "loading", "running"))

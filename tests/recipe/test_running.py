"""Runs: every stage leaves its group, only what changed is run again, and a stopped run ends as others do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from surgery.errors import InputError
from surgery.models import Checkpoint, build, save_checkpoint
from surgery.recipe import RecipeError, load_recipe
from surgery.run import RunFolder, differences, run_recipe
from surgery.stages.attack import Accuracy, Difference
from surgery.stages.cluster import FoundSuperclasses
from surgery.stages.features import FeaturesStage
from surgery.stages.findings import Contrast
from surgery.stages.folder import FolderChunks
from surgery.store import Group, Variable, list_groups, read_group, write_group, write_groups

TINY = """\
[recipe]
seed = 1

[data]
name = "planted"
train_size = 180
test_size = 54
validation = 0.1

[model]
architecture = "convnet"
arguments = { width = 8 }

[stage.std]
kind = "train"
objective = { kind = "standard" }
epochs = 2
batch_size = 32
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.at]
kind = "train"
initial = "std.last"
objective = { kind = "pgd", attack = { epsilon = "8/255", steps = 2, step_size = "4/255" } }
epochs = 2
batch_size = 32
schedule = { kind = "constant", learning_rate = 0.05 }
select = { attack = { epsilon = "8/255", steps = 2, step_size = "4/255" } }

[stage.graph]
kind = "linearize"
model = "at"

[stage.map]
kind = "extract"
graph = "graph"

[stage.hierarchy]
kind = "cluster"
map = "map"
superclasses = 3

[stage.atc]
kind = "train"
objective = { kind = "standard", cluster = { hierarchy = "hierarchy", weight = 0.1, form = "norm" } }
epochs = 1
schedule = { kind = "constant", learning_rate = 0.05 }
select = { every = 0 }

[stage.robustness]
kind = "attack"
model = "std"
batch_size = 16
attacks.fgsm = { kind = "fgsm", epsilon = "8/255" }
attacks.pgd = { epsilon = "8/255", steps = 3, step_size = "4/255" }

[stage.confusion]
kind = "confusion"
model = "at"
batch_size = 16
attack = { epsilon = "8/255", steps = 3, step_size = "4/255" }

[stage.features]
kind = "features"
model = "at"

[stage.report]
kind = "report"
figures = []

[matrix]
"stage.robustness.model" = ["std", "atc.last"]
"""

ATTACKS = ["robustness@model-std", "robustness@model-atc.last"]
STAGES = ["std", "at", "graph", "map", "hierarchy", "atc", *ATTACKS, "confusion", "features", "report"]

HEAD = TINY[: TINY.index("[stage.at]")]


def run(text: str, folder: Path, **options: Any):
    path = folder.parent / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return run_recipe(load_recipe(path), folder, **options)


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run, which is not to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "tiny"
    assert list(run(TINY, folder).ran) == STAGES
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "tiny")


def test_every_stage_leaves_its_group(finished: Path) -> None:
    kinds = {item.name: item.kind for item in list_groups(finished)}
    assert list(kinds) == STAGES
    assert set(kinds.values()) == {*("train", "linearize", "linear", "hierarchy", "attack"), *ATTACK_KINDS}
    for stage in ("std", "at", "atc"):
        assert {path.name for path in (finished / "checkpoints" / stage).glob("*.safetensors")} == {
            *("best.safetensors", "last.safetensors", "resume.safetensors")
        }
    assert (finished / "graphs" / "graph.safetensors").is_file()
    assert (finished / "recipe.toml").read_text(encoding="utf-8").startswith("[recipe]")
    assert not (finished / "partial").exists()


ATTACK_KINDS = ("confusion", "features", "report")


def test_a_finished_run_runs_nothing(folder: Path, finished: Path) -> None:
    heard = []
    again = run(TINY, folder, listener=heard.append)
    assert (again.ran, list(again.cached)) == ((), STAGES)
    assert [progress.state for progress in heard] == ["cached"] * len(STAGES)
    assert (folder / "results.h5").read_bytes() == (finished / "results.h5").read_bytes()


def test_a_comment_changes_nothing(folder: Path) -> None:
    commented = changed(TINY, "epochs = 2\n", "epochs = 2   # enough here\n").replace("batch_size = 16", "batch_size=9")
    assert run(f"# mine\n\n{commented}", folder).ran == ()


def test_other_steps_rerun_the_attack_and_the_report_only(folder: Path, finished: Path) -> None:
    before = read_group(finished, "robustness@model-std")
    steps = 'attacks.pgd = { epsilon = "8/255", steps = 3, step_size = "4/255" }'
    again = run(changed(TINY, steps, steps.replace("steps = 3", "steps = 4")), folder)
    assert list(again.ran) == [*ATTACKS, "report"]
    assert '"steps": 4' in read_group(folder, "robustness@model-std").provenance["parameters"]
    assert '"steps": 3' in before.provenance["parameters"]
    assert list(run(TINY, folder).ran) == [*ATTACKS, "report"]
    assert differences(folder, finished) == ()


def test_other_training_reruns_what_follows_from_it(folder: Path) -> None:
    again = run(changed(TINY, 'initial = "std.last"\n', ""), folder)
    assert list(again.ran) == [name for name in STAGES if name not in ("std", "robustness@model-std")]


def test_a_raised_version_reruns_the_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeaturesStage, "version", FeaturesStage.version + 1)
    assert list(run(TINY, folder).ran) == ["features", "report"]


def test_chosen_stages_are_run_with_what_they_read(tmp_path: Path) -> None:
    done = run(TINY, tmp_path / "run", stages=("map",))
    assert list(done.ran) == ["std", "at", "graph", "map"]
    with pytest.raises(InputError, match="did you mean 'features'"):
        run(TINY, tmp_path / "run", stages=("feature",))


# Stopped runs


class StoppedError(Exception):
    """What a listener raises."""


def stop_at(stage: str, done: int) -> Callable[[Any], None]:
    def listen(progress: Any) -> None:
        if progress.stage == stage and progress.state == "running" and progress.done >= done:
            raise StoppedError

    return listen


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunks of evaluations that are computed, not read."""
    found: list[str] = []
    save = FolderChunks.save

    def saving(chunks: FolderChunks, key: str, chunk: torch.Tensor) -> None:
        found.append(f"{chunks.path.name}: {key}")
        save(chunks, key, chunk)

    monkeypatch.setattr(FolderChunks, "save", saving)
    return found


@pytest.mark.parametrize(("stage", "done"), [("std", 1), ("at", 12), ("confusion", 32)])
def test_a_stopped_run_goes_on_and_ends_as_an_undisturbed_one(
    tmp_path: Path, finished: Path, computed: list[str], stage: str, done: int
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        run(TINY, folder, listener=stop_at(stage, done))
    before = [item.name for item in list_groups(folder)] if (folder / "results.h5").exists() else []
    assert before == STAGES[: STAGES.index(stage)]
    heard = []
    again = run(TINY, folder, listener=heard.append)
    assert list(again.ran) == STAGES[STAGES.index(stage) :]
    first = next(progress for progress in heard if progress.stage == stage and progress.done)
    assert first.done >= done or stage == "confusion", "batches are not trained on again"
    assert len(set(computed)) == len(computed), "no chunk is computed again"
    assert any("natural" in key for key in computed)
    check_same(folder, finished)


KILL = """\
import os, signal, sys
from surgery.recipe import load_recipe
from surgery.run import run_recipe

def listen(progress):
    if (progress.stage, progress.state) == (sys.argv[3], "running") and progress.done >= int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

run_recipe(load_recipe(sys.argv[1]), sys.argv[2], listener=listen)
"""


@pytest.mark.parametrize(("stage", "done"), [("at", 8), ("robustness@model-atc.last", 80)])
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    tmp_path: Path, finished: Path, stage: str, done: int
) -> None:
    folder = tmp_path / "run"
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")
    command = [sys.executable, "-c", KILL, str(tmp_path / "tiny.toml"), str(folder), stage, str(done)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert [item.name for item in list_groups(folder)] == STAGES[: STAGES.index(stage)]
    assert list(run(TINY, folder).ran) == STAGES[STAGES.index(stage) :]
    check_same(folder, finished)


def check_same(folder: Path, finished: Path) -> None:
    assert differences(folder, finished) == ()
    for path in finished.glob("checkpoints/*/*.safetensors"):
        ours, theirs = (safetensors.torch.load_file(where / path.relative_to(finished)) for where in (folder, finished))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours if name != "rows"), path


def test_what_differs_between_two_stores_is_named(folder: Path, finished: Path) -> None:
    other = changed(TINY, "[stage.features]\n", '[stage.features]\nvariant = "published"\n')
    run(other, folder, stages=("features",))
    found = differences(folder, finished)
    assert "features/feature_distance: values" in found
    assert "features/variant: published / paper" in found
    assert any(text.startswith("features/parameters: ") for text in found)
    assert all(text.startswith("features/") for text in found)


# Files next to the store


def test_missing_checkpoints_are_made_again(folder: Path, finished: Path) -> None:
    for name in ("best.safetensors", "last.safetensors", "resume.safetensors"):
        (folder / "checkpoints" / "at" / name).unlink()
    (folder / "graphs" / "graph.safetensors").unlink()
    assert list(run(TINY, folder).ran) == ["at", "graph"]
    check_same(folder, finished)


def test_a_missing_best_checkpoint_takes_no_new_training(folder: Path) -> None:
    (folder / "checkpoints" / "at" / "best.safetensors").unlink()
    heard = []
    assert list(run(TINY, folder, listener=heard.append).ran) == ["at"]
    assert not [progress for progress in heard if progress.done]


def test_another_recipe_with_the_same_names_replaces_what_is_there(folder: Path, finished: Path) -> None:
    other = changed(changed(TINY, "seed = 1\n", "seed = 2\n"), "width = 8", "width = 4")
    assert list(run(other, folder, stages=("map",)).ran) == ["std", "at", "graph", "map"]
    assert any(text.startswith("map/weight") for text in differences(folder, finished))
    assert list(run(TINY, folder).ran) == ["std", "at", "graph", "map"]
    check_same(folder, finished)


def test_what_others_left_under_the_names_of_stages_is_replaced(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    for name in ("best.safetensors", "resume.safetensors", "key.json"):
        path = folder / "checkpoints" / "std" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not ours", encoding="utf-8")
    number = Variable(name="number", data=np.ones(1), dimensions=("line",), long_name="a number")
    provenance = {"stage": '{"key": "of a later version", "more": 1}'}
    write_groups(folder, [Group(name=name, kind="other", variables=(number,)) for name in ("std", "mine")])
    write_group(folder, Group(name="std", kind="other", variables=(number,), provenance=provenance), replace=True)
    assert list(run(HEAD, folder).ran) == ["std"]
    assert {item.name: item.kind for item in list_groups(folder)} == {"mine": "other", "std": "train"}
    assert np.array_equal(read_group(folder, "std")["loss"], read_group(finished, "std")["loss"])


def test_checkpoints_of_a_later_unfinished_run_are_not_taken_for_those_of_a_finished_one(
    folder: Path, finished: Path
) -> None:
    longer = changed(TINY, "epochs = 2\n", "epochs = 3\n")
    with pytest.raises(StoppedError):
        run(longer, folder, listener=stop_at("std", 7))
    assert (folder / "checkpoints" / "std" / "best.safetensors").exists()
    assert list(run(TINY, folder).ran) == ["std"]
    check_same(folder, finished)


def test_figures_are_drawn_again_where_they_are_missing_and_removed_where_they_are_stale(tmp_path: Path) -> None:
    text = HEAD + '[stage.map]\nkind = "extract"\nmodel = "std"\n\n[stage.report]\nkind = "report"\n'
    folder = tmp_path / "run"
    done = run(text, folder)
    drawn = sorted(path.name for path in folder.glob("figures/*.png"))
    assert drawn == [
        *("map-correlation-centered.png", "map-correlation.png", "map-spectrum.png", "map-weights.png"),
        "std-history.png",
    ]
    assert sorted(read_group(folder, "report")["figure"]) == [f"figures/{name}" for name in drawn]
    (folder / "figures" / "std-history.png").unlink()
    assert list(run(text, folder).ran) == ["report"]
    mine = folder / "figures" / "mine.png"
    mine.write_bytes(b"")
    only = text + 'stages = ["std"]\n'
    assert list(run(only, folder).ran) == ["report"]
    assert sorted(path.name for path in folder.glob("figures/*.png")) == ["mine.png", "std-history.png"]
    assert RunFolder(path=folder).figures_of("report") == ("figures/std-history.png",)
    assert done.summary.of(Accuracy.section) == []


# Sources of networks, matrices, hierarchies


def files(tmp_path: Path, text: str) -> dict[str, Any]:
    done = run(text, tmp_path / "run")
    return {name: read_group(done.folder.path, name) for name in (*done.ran, *done.cached)}


def test_networks_come_from_files_too(tmp_path: Path) -> None:
    arguments = {"width": 8, "num_classes": 9}
    torch.manual_seed(0)
    network = build("convnet", **arguments)
    checkpoint = Checkpoint(
        architecture="convnet", arguments=arguments, input_shape=(3, 16, 16), state=network.state_dict()
    )
    save_checkpoint(tmp_path / "whole.safetensors", checkpoint)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    text = HEAD[: HEAD.index("[stage.std]")]
    for name, source in (
        ("whole", 'file = "whole.safetensors"'),
        ("weights", 'file = "weights.pt"\nnetwork = { architecture = "convnet", arguments = { width = 8 } }'),
    ):
        text += f'[stage.{name}]\nkind = "extract"\n{source}\n\n'
    text += '[stage.attack]\nkind = "attack"\nfile = "whole.safetensors"\n'
    text += 'attacks.fgsm = { kind = "fgsm", epsilon = 0.01 }\n'
    found = files(tmp_path, text)
    assert np.array_equal(found["whole"]["weight"], found["weights"]["weight"])
    assert found["whole"]["weight"].shape == (9, 3, 16, 16)
    assert list(found["attack"]["attack"]) == ["natural", "fgsm", "worst_case"]


def test_an_inner_node_has_a_map_with_numbered_rows(tmp_path: Path) -> None:
    text = HEAD + (
        '[stage.inner]\nkind = "extract"\nmodel = "std"\nat = "flatten"\n\n'
        '[stage.groups]\nkind = "cluster"\nmap = "inner"\nsuperclasses = 2\nmethod = "spectral"\n\n'
        '[stage.report]\nkind = "report"\n'
    )
    found = files(tmp_path, text)
    assert list(found["inner"]["class"]) == [str(number) for number in range(128)]
    assert "reference" not in found["groups"].attributes
    assert {Path(name).name for name in found["report"]["figure"]} == {
        *("groups-superclasses.png", "inner-correlation-centered.png", "inner-correlation.png", "inner-spectrum.png"),
        "std-history.png",
    }


def test_seeds_of_a_matrix_train_different_networks(tmp_path: Path) -> None:
    text = HEAD + '[stage.map]\nkind = "extract"\nmodel = "std"\n\n[matrix]\nseed = [0, 1]\n'
    found = files(tmp_path, text)
    assert list(found) == ["std@seed-0", "std@seed-1", "map@seed-0", "map@seed-1"]
    assert not np.array_equal(found["map@seed-0"]["weight"], found["map@seed-1"]["weight"])
    assert found["std@seed-1"].provenance["seeds"] == '{"stage": 1}'


def test_a_missing_hierarchy_of_the_data_is_named(tmp_path: Path) -> None:
    penalty = '{ hierarchy = "data", weight = 0.1, form = "norm" }'
    text = changed(HEAD, '{ kind = "standard" }', f'{{ kind = "standard", cluster = {penalty} }}')
    digits = changed(text, 'name = "planted"', 'name = "digits"')
    with pytest.raises(RecipeError, match=r"hierarchy: digits has no known superclasses that 'data' could mean"):
        run(digits, tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists(), "before any stage"


def test_data_without_a_hierarchy_has_superclasses_without_scores(tmp_path: Path) -> None:
    text = changed(HEAD, 'name = "planted"', 'name = "digits"') + (
        '[stage.map]\nkind = "extract"\nmodel = "std"\n\n'
        '[stage.groups]\nkind = "cluster"\nmap = "map"\nsuperclasses = "gap"\n'
    )
    done = run(text, tmp_path / "run")
    assert done.summary.of(Contrast.section) == []
    [found] = done.summary.of(FoundSuperclasses.section)
    assert (found.adjusted_rand_index, found.p_value) == (None, None)
    assert sum(map(len, found.groups)) == 10


# The summary


def test_two_models_are_set_against_each_other_on_the_same_images(finished: Path, folder: Path) -> None:
    found = run(TINY, folder).summary
    assert {(row.model, row.attack) for row in found.of(Accuracy.section)} == {
        (model, attack) for model in ("std.best", "atc.last") for attack in ("natural", "fgsm", "pgd", "worst case")
    }
    assert [(row.first, row.second, row.attack) for row in found.of(Difference.section)] == [
        ("std.best", "atc.last", attack) for attack in ("natural", "fgsm", "pgd")
    ]
    one, other = (read_group(finished, name)["correct"][2].astype(int) for name in ATTACKS)
    pgd = found.of(Difference.section)[-1]
    assert pgd.difference == pytest.approx(other.mean() - one.mean())
    assert 0.0 <= pgd.p_value <= 1.0
    assert [(row.model, row.matrix) for row in found.of(Contrast.section)] == [
        *(("at.best", "C"), ("at.best", "C centered"), ("at.best", "M among fooled")),
    ]
    assert list(read_group(folder, "report")["verdict"]) == found.lines()
    assert "atc.last - std.best" in "\n".join(found.lines())


def test_attacks_of_one_name_with_other_settings_are_not_compared(tmp_path: Path) -> None:
    attack = '\n[stage.{}]\nkind = "attack"\nmodel = "std.{}"\nattacks.fgsm = {{ kind = "fgsm", epsilon = {} }}\n'
    text = HEAD + attack.format("first", "best", 0.01) + attack.format("second", "last", 0.02)
    found = run(text, tmp_path / "run").summary
    assert [row.attack for row in found.of(Difference.section)] == ["natural"]
    shown = run(text + attack.format("third", "last", 0.01), tmp_path / "run").summary
    assert [(row.attack, row.second) for row in shown.of(Difference.section)] == [
        ("natural", "std.last"),
        ("fgsm", "std.last"),
    ]

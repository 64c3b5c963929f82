"""Times of stages in a preview, from the journal of an earlier run or from a measurement, and remembered data."""

import json
import os
import platform
import sys

import pytest
import torch
from typer.testing import CliRunner

from surgery.recipe import PreviewedStage, load_data, preview_run
from surgery.run import RunFolder, run_recipe
from surgery.run.forecast import forecast, measured, remembered_digest, timings
from surgery.stages import Sizes
from surgery_cli.main import app

RECIPE = """\
[data]
name = "planted"
train_size = 90
test_size = 45

[model]
architecture = "convnet"
arguments = { width = 4 }

[stage.net]
kind = "train"
objective = { kind = "standard" }
epochs = 1
batch_size = 30
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.map]
kind = "extract"
model = "net"
"""


def journal(folder, *entries):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"time": "2026-11-25T01:51:52+00:00", **entry}) for entry in entries]
    (folder / "journal.jsonl").write_text("\n".join([*lines, '{"time": "2026']))
    return RunFolder(path=folder)


def run(device="cpu", machine=None):
    return {"event": "run", "device": device, "machine": machine or platform.node()}


def start(stage, kind="train", passes=1000, key="k"):
    return {"event": "start", "stage": stage, "kind": kind, "key": key, "passes": passes}


def done(stage, seconds):
    return {"event": "done", "stage": stage, "seconds": seconds}


def stage(name, kind="train", passes=2000, state="will run"):
    return PreviewedStage(
        name=name, kind=kind, state=state, why="new", key=None, parameters={}, inputs=(), passes=passes
    )


def test_times_are_those_of_similar_stages(tmp_path):
    folder = journal(
        tmp_path,
        run(),
        *(start("at", passes=1000), done("at", 10.0), start("at@seed-1", passes=1000), done("at@seed-1", 30.0)),
        *(start("map", "extract", 0), done("map", 0.5)),
    )
    earlier = timings(folder, device="cpu")
    wanted = [stage("at"), stage("at@seed-2"), stage("other"), stage("map2", "extract", 0), stage("a", "attack")]
    found = forecast([*wanted, stage("at@seed-1", state="cached")], earlier)
    assert {name: estimate.seconds for name, estimate in found.items()} == {
        "at": 20.0, "at@seed-2": 60.0, "other": 60.0, "map2": 0.5
    }  # fmt: skip
    assert found["at"].basis == "2026-11-25: 10 s for 1,000 images in stage at"


@pytest.mark.parametrize(
    "entries",
    [
        [run(device="cuda"), start("at"), done("at", 10.0)],
        [run(machine="another"), start("at"), done("at", 10.0)],
        [run(), start("at"), {"event": "stopped", "stage": "at"}, start("at"), done("at", 10.0)],
        [run(), start("at", passes=None), done("at", 10.0)],
        [run(), done("at", 10.0)],
        [{"event": 3}, {"event": "done", "stage": []}],
        [run(), start("at"), done("at", float("nan"))],
        [run(), start("at", passes=-1), done("at", 10.0)],
    ],
    ids=["another device", "another machine", "resumed", "no passes", "no start", "damaged", "no time", "no amount"],
)
def test_times_that_say_nothing_about_this_machine_are_left_out(tmp_path, entries):
    assert not forecast([stage("at")], timings(journal(tmp_path, *entries), device="cpu"))


def test_a_folder_without_a_journal_has_no_times(tmp_path):
    assert timings(RunFolder(path=tmp_path / "nothing"), device="cpu") == ()
    os.mkfifo(tmp_path / "journal.jsonl")
    assert timings(RunFolder(path=tmp_path), device="cpu") == ()


def test_a_run_leaves_the_times_that_a_preview_scales(load, tmp_path):
    recipe = load(RECIPE)
    run_recipe(recipe, tmp_path / "run", device="cpu")
    earlier = timings(RunFolder(path=tmp_path / "run"), device="cpu")
    assert [(timing.stage, timing.kind) for timing in earlier] == [("net", "train"), ("map", "extract")]
    longer, data = load(RECIPE, [("stage.net.epochs", "10")]), load_data(recipe)
    preview = preview_run(longer, {}, data.digest, sizes=Sizes.of_data(data))
    found = forecast(preview, earlier)
    assert found["net"].seconds == pytest.approx(earlier[0].seconds * 10, rel=1e-6)
    text = CliRunner().invoke(app, ["plan", longer.source, "--set", "stage.net.epochs=10", "-o", str(tmp_path / "run")])
    assert "images in stage net" in text.stdout
    planned = CliRunner().invoke(app, ["plan", longer.source, "-o", str(tmp_path / "none"), "--time", "--json"])
    times = [item["time"] for item in json.loads(planned.stdout)["stages"]]
    assert "measured now" in times[0]["basis"]
    assert times[0]["seconds"] > 0


def test_networks_are_measured_once_and_user_code_is_not_run(load):
    text = RECIPE + '[stage.two]\nkind = "features"\nmodel = "net"\n'
    recipe = load(text)
    data = load_data(recipe)
    preview = preview_run(recipe, {}, data.digest, sizes=Sizes.of_data(data))
    before = torch.get_rng_state()
    found = measured(recipe, preview, data, device=torch.device("cpu"))
    assert set(found) >= {"net", "two"}
    assert found["net"].basis == found["two"].basis
    assert torch.equal(torch.get_rng_state(), before)


DATA = """
from surgery.data import planted

def own(train_size=90):
    return planted(train_size=train_size, test_size=45)
"""


def test_a_preview_takes_data_of_a_user_for_those_of_the_last_run(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "data_for_forecast.py"
    module.write_text(DATA)
    text = RECIPE.replace('"planted"\ntrain_size = 90\ntest_size = 45', '"data_for_forecast:own"')
    recipe = load(text)
    ran = run_recipe(recipe, tmp_path / "run", device="cpu")
    sys.modules.pop("data_for_forecast")
    assert remembered_digest(recipe, ran.folder) is not None

    def states(*words):
        result = CliRunner().invoke(app, ["plan", "mine.toml", "-o", "run", "--json", *words])
        return [stage["state"] for stage in json.loads(result.stdout)["stages"]]

    assert states() == ["cached", "cached"]
    assert states("--set", "stage.map.at='output'")[0] == "cached"
    assert states("--set", "data.train_size=80") == ["will run", "will run"]
    module.write_text(DATA.replace("45", "36"))
    assert states() == ["will run", "will run"]
    assert "data_for_forecast" not in sys.modules

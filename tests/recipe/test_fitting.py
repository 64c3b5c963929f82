"""What a recipe asks of its data is checked before its first stage; known superclasses come from a file of the user."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from surgery.errors import InputError
from surgery.recipe import RecipeError, load_data, preview_run, stage_keys, stage_records
from surgery.run import run_recipe
from surgery_cli.main import app

SMALL = """\
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

[stage.groups]
kind = "cluster"
map = "map"
superclasses = 2

[stage.natural]
kind = "attack"
model = "net"
attacks.fgsm = { kind = "fgsm", epsilon = "8/255" }

[stage.moves]
kind = "confusion"
model = "net"
attack = { kind = "fgsm", epsilon = "8/255" }
"""

PENALTY = 'cluster = { hierarchy = §"own.toml", weight = 0.1 }'
OWN = '[superclasses]\nlow = ["A1", "A2", "A3", "B1"]\nhigh = ["B2", "B3", "C1", "C2", "C3"]\n'

MISFITS = {
    "class names of a file": (
        'objective = { kind = "standard" }',
        f'objective = {{ kind = "standard", {PENALTY} }}',
        "hierarchy: own.toml has no superclass for the class 'A1' of the data; did you mean ",
        OWN.replace('"A1"', '"A_1"'),
    ),
    "named hierarchy of other data": (
        'objective = { kind = "standard" }',
        'objective = { kind = "standard", cluster = { hierarchy = §"cifar10", weight = 0.1 } }',
        "hierarchy: cifar10 has no superclass for the class 'A1' and 8 more of the data; it has airplane",
        OWN,
    ),
    "reference of a clustering": (
        "superclasses = 2",
        'superclasses = 2\nreference = §"own.toml"',
        "reference: own.toml has no superclass for the class 'C3'",
        OWN.replace(', "C3"', ""),
    ),
    "hierarchy of the data": (
        "train_size = 90",
        'train_size = 90\nhierarchy = §"own.toml"',
        "hierarchy: own.toml has no superclass for the class 'B1'",
        OWN.replace(', "B1"', ""),
    ),
    "fraction that rounds to no images": (
        "train_size = 90",
        "train_size = 90\nvalidation = §0.001",
        "validation = 0.001 of the 90 training images rounds to no image",
        OWN,
    ),
    "batch of more images": (
        "batch_size = 30",
        "batch_size = §128",
        "stage net: batch_size: expected at most the 86 training images, got 128",
        OWN,
    ),
    "too many superclasses": (
        "superclasses = 2",
        "superclasses = §10",
        "superclasses: expected at most the 9 classes of the data, got 10",
        OWN,
    ),
}


@pytest.mark.parametrize(("old", "new", "message", "own"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_the_data_is_found_by_plan_and_before_the_first_stage(
    load, tmp_path, monkeypatch, old, new, message, own
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(own)
    marked = SMALL.replace(old, new, 1)
    before = marked[: marked.index("§")]
    place = f"mine.toml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: "
    with pytest.raises(RecipeError) as caught:
        run_recipe(load(marked.replace("§", "")), tmp_path / "run", device="cpu")
    said = re.sub(r"\s+", " ", str(caught.value))
    assert place + message in said
    assert not (tmp_path / "run" / "results.h5").exists()
    planned = CliRunner().invoke(app, ["plan", "mine.toml"])
    assert planned.exit_code == 2
    assert message in re.sub(r"\s+", " ", planned.stderr)


def test_a_wrong_hierarchy_file_is_found_without_the_data(load, tmp_path):
    (tmp_path / "own.toml").write_text("[superclasses]\nlow = 3\n")
    with pytest.raises(RecipeError, match=r"mine\.toml:4:13: .*own\.toml:2:1: superclass 'low' is a list"):
        load(SMALL.replace("test_size = 45", 'hierarchy = "own.toml"'))
    with pytest.raises(RecipeError, match=r": unknown hierarchy 'cifar11'.*did you mean 'cifar10'"):
        load(SMALL.replace("test_size = 45", 'hierarchy = "cifar11"'))


@pytest.mark.parametrize("what", list(MISFITS)[:4])
def test_hierarchies_of_other_classes_are_found_without_loading_the_data(load, tmp_path, monkeypatch, what):
    monkeypatch.setattr("surgery.data.sources.load", None)
    old, new, message, own = MISFITS[what]
    (tmp_path / "own.toml").write_text(own)
    with pytest.raises(RecipeError) as caught:
        load(SMALL.replace(old, new.replace("§", ""), 1))
    [problem] = caught.value.problems
    assert message in str(problem)


def test_classes_of_image_folders_are_known_without_loading_them(load, tmp_path):
    for name in ("cat", "dog", "truck"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
    (tmp_path / "own.toml").write_text('[superclasses]\nanimals = ["cat", "dog"]\nvehicles = ["car"]\n')
    text = SMALL.replace(
        '"planted"\ntrain_size = 90\ntest_size = 45', '"folder"\nroot = "images"\nhierarchy = "own.toml"'
    )
    with pytest.raises(
        RecipeError, match=r"mine\.toml:4:13: hierarchy: own.toml has no superclass for the class 'truck'"
    ):
        load(text)


DATA = """
from dataclasses import replace
from surgery.data import planted

def no_test():
    data = planted(train_size=90, test_size=9, validation=0.1)
    return replace(data, test=data.test.subset(slice(0)))

def no_hierarchy():
    return replace(planted(train_size=90, test_size=9), hierarchy=None)
"""


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("no_test", (), "split: planted 3x3 has no test images that stage natural could use"),
        ("no_test", (), "split: planted 3x3 has no test images that stage moves could use"),
        (
            "no_test",
            (("stage.net.select.on", "test"),),
            "select.on: planted 3x3 has no test images that stage net could use",
        ),
        (
            "no_hierarchy",
            (("data.hierarchy", "cifar10"),),
            "--set data.hierarchy=cifar10: hierarchy: cifar10 has no",
        ),
        (
            "no_hierarchy",
            (("stage.groups.reference", "cifar10"),),
            "reference: cifar10 has no superclass for the class 'A1'",
        ),
        (
            "no_hierarchy",
            (("stage.net.objective.cluster", '{ hierarchy = "data", weight = 0.1 }'),),
            "planted 3x3 has no known superclasses that 'data' could mean",
        ),
    ],
)
def test_data_of_a_user_are_checked_before_the_first_stage(load, tmp_path, monkeypatch, name, changes, message):
    monkeypatch.chdir(tmp_path)
    module = f"data_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(DATA)
    text = SMALL.replace("train_size = 90\ntest_size = 45\n", "").replace('"planted"', f'"{module}:{name}"')
    with pytest.raises(RecipeError) as caught:
        run_recipe(load(text, changes), tmp_path / "run", device="cpu")
    assert message in str(caught.value)


def test_superclasses_of_the_user_are_those_of_the_data(load, tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    recipe = load(SMALL.replace("train_size = 90", 'train_size = 90\nhierarchy = "own.toml"'))
    known = load_data(recipe).hierarchy
    assert known is not None
    assert known.names == ("low", "high")
    assert recipe.data.load().hierarchy == known
    run = run_recipe(recipe, tmp_path / "run", device="cpu")
    group = run.folder.read("moves")
    assert [str(name) for name in group["superclass"]] == ["low", "high"]
    assert run.folder.read("groups").attributes["reference"] == "file own.toml"


def test_the_file_of_superclasses_decides_only_the_stages_that_use_it(load, tmp_path):
    def keys(own: str | None, penalty: bool = False):
        (tmp_path / "own.toml").write_text(own or OWN)
        text = SMALL if own is None else SMALL.replace("train_size = 90", 'train_size = 90\nhierarchy = "own.toml"')
        overrides = [("stage.net.objective.cluster", '{ hierarchy = "data", weight = 0.1 }')] if penalty else []
        recipe = load(text, overrides)
        return recipe, stage_keys(recipe, "d" * 64)

    def changed(one, other):
        return {name for name in one if one[name] != other[name]}

    plain, without = keys(None)
    assert changed(without, keys(OWN)[1]) == {"groups", "moves"}
    assert changed(keys(OWN)[1], keys(OWN.replace("low", "left"))[1]) == {"groups", "moves"}
    assert "net" in changed(keys(OWN, penalty=True)[1], keys(OWN.replace("low", "left"), penalty=True)[1])
    records = stage_records(plain, "d" * 64)
    why = {stage.name: stage.why for stage in preview_run(keys(OWN)[0], records, "d" * 64)}
    assert why["moves"] == "data.hierarchy was added"
    assert why["map"] == "nothing changed"


def test_a_share_of_no_image_is_no_mistake_where_no_stage_asks_for_it(load):
    recipe = load(
        SMALL.replace("train_size = 90", "train_size = 90\nvalidation = 0.001"), [("stage.net.select.every", "0")]
    )
    assert not len(load_data(recipe).validation)


def test_missing_data_are_no_problem_of_the_recipe(load, tmp_path):
    recipe = load(SMALL.replace("train_size = 90\ntest_size = 45", 'root = "nowhere"').replace("planted", "cifar10"))
    with pytest.raises(InputError) as caught:
        load_data(recipe)
    assert not isinstance(caught.value, RecipeError)
    assert Path("nowhere").name in str(caught.value)

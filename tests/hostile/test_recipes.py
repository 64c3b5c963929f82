"""Recipes that are damaged or made to hurt: one located error, in little time and memory, and exit code 2."""

import os
import time

import pytest
from typer.testing import CliRunner

from surgery.errors import InputError
from surgery.recipe import RecipeError, load_recipe
from surgery.recipe.problems import MOST_SHOWN
from surgery.recipe.reading import MOST_FILES
from surgery_cli.main import app

SECONDS = 30
"""The most processor time for one case: most take a second, but machines are busy."""

HEAD = """\
[data]
name = "planted"
[model]
architecture = "convnet"
arguments = { width = 4 }
[stage.at]
kind = "train"
objective = { kind = "standard" }
epochs = 1
schedule = { kind = "constant", learning_rate = 0.1 }
[stage.map]
kind = "extract"
model = "at"
[stage.attacked]
kind = "attack"
model = "at"
attacks.fgsm = { kind = "fgsm", epsilon = 0.1 }
"""


def lines(count, line):
    return "\n".join(line.format(number) for number in range(count))


NUMBERS = ", ".join(map(str, range(200_000)))
MATRIX = HEAD + "[matrix]\n"
RATE = '"stage.at.schedule.learning_rate"'
TEXTS = {
    "matrix: empty list": ("matrix = []\n" + HEAD, ":1:10: matrix: expected a table, got a list"),
    "matrix: list": ("matrix = [1]\n" + HEAD, ":1:10: matrix: expected a table, got a list"),
    "matrix: text": ("matrix = 'seed'\n" + HEAD, ":1:10: matrix: expected a table, got 'seed'"),
    "matrix: empty axis": (MATRIX + "seed = []", ":19:8: seed: expected a list of values, got an empty one"),
    "matrix: inf": (
        MATRIX + f"{RATE} = [1.0, inf]",
        ":19:43: stage.at.schedule.learning_rate: expected finite numbers",
    ),
    "matrix: nan": (MATRIX + f"{RATE} = [nan]", ":19:38: stage.at.schedule.learning_rate: expected finite numbers"),
    "matrix: inf in a table": (
        MATRIX + '"model.arguments" = [{ width = inf }]',
        ":19:22: model.arguments: expected finite",
    ),
    "matrix: inf that no stage uses": (
        MATRIX.replace("[stage.at]", "[stage.at]\nnetwork = { architecture = 'linear' }")
        + '"model.arguments.x" = [inf]',
        "model.arguments.x: expected finite numbers, got inf",
    ),
    "matrix: date": (
        MATRIX + '"model.arguments.width" = [1979-05-27]',
        ":19:28: model.arguments.width: expected numbers",
    ),
    "matrix: 200,000 seeds": (MATRIX + f"seed = [{NUMBERS}]", ":19:8: seed: expected at most 2000 values, got 200000"),
    "matrix: a million seeds": (MATRIX + f"seed = [{NUMBERS * 5}]", "expected a text file of at most 2 MiB"),
    "matrix: 10,000 keys": (
        MATRIX + lines(10_000, '"stage.at.x{0}" = [1]'),
        "matrix: expected at most 50 keys, got 10000",
    ),
    "matrix: 3^40 stages": (MATRIX + lines(40, '"model.arguments.a{0}" = [1, 2, 3]'), "expected at most 2000"),
    "kind: empty": (HEAD.replace('"extract"', '""'), ":12:8: unknown stage kind ''"),
    "kind: number": (HEAD.replace('"extract"', "3"), ":12:8: kind: expected a text, got 3"),
    "kind: list": (HEAD.replace('"extract"', "[]"), ":12:8: kind: expected a text, got a list"),
    "attack kind: empty": (HEAD.replace('"fgsm"', '""'), ":17:25: unknown attack ''"),
    "inf": (HEAD.replace("width = 4", "width = inf"), ":5:13: arguments: expected finite numbers, got inf"),
    "nan": (HEAD.replace("rate = 0.1", "rate = nan"), "learning_rate: expected a finite number, got nan"),
    "4,000 digits": (HEAD.replace("width = 4", "width = " + "9" * 4000), "whole numbers of at most 9007199254740992"),
    "many epochs": (HEAD.replace("epochs = 1", "epochs = 9" + "9" * 30), "number of at most 9007199254740992, got 999"),
    "200,000 unknown keys": (lines(200_000, "k{0}=0") + "\n" + HEAD, "199990 more unknown keys in this table"),
    "50,000 unknown keys of a stage": (HEAD.replace("model =", lines(50_000, "k{0}=0") + "\nmodel =", 1), "49990 more"),
    "20,000 stages": (
        HEAD + lines(20_000, '[stage.s{0}]\nkind="extract"\nmodel="at"'),
        "at most 2000 stages, got 20003",
    ),
    "20,000 tables of a stage": (HEAD + lines(20_000, "[[stage.q]]\na = 1"), "the key 'kind' is missing"),
    "1,000 wrong references": (
        HEAD + lines(1000, '[stage.s{0}]\nkind="extract"\nmodel="x{0}"'),
        "and 950 more problems",
    ),
    "long name": (HEAD.replace("[stage.map]", f"[stage.{'x' * 10_000}]"), "is not a valid name"),
    "100,000 includes": ("include = [" + '"mine.toml", ' * 100_000 + "]", ":1:11: include: expected at most 100 files"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_hostile_recipes_are_short_errors(tmp_path, text, message):
    path, start = tmp_path / "mine.toml", time.process_time()
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 700 * MOST_SHOWN
    assert time.process_time() - start < SECONDS


def test_a_chain_of_more_stages_than_calls_can_nest_loads(tmp_path):
    stage = '[stage.s{0}]\nkind = "train"\ninitial = "s{1}"\nobjective.kind = "standard"\nepochs = 1\n'
    stage += 'schedule = {{ kind = "constant", learning_rate = 1.0 }}\n'
    text = HEAD.replace("stage.at]", "stage.s1050]").replace('"at"', '"s0"')
    (tmp_path / "mine.toml").write_text(text + "".join(stage.format(n, n + 1) for n in range(1050)))
    assert [stage.name for stage in load_recipe(tmp_path / "mine.toml").stages[:2]] == ["s1050", "s1049"]


def test_each_file_of_a_diamond_of_includes_is_read_once(tmp_path):
    """2^40 ways lead from the first to the last file."""
    (tmp_path / "f40.toml").write_text(HEAD)
    for number in range(40):
        (tmp_path / f"f{number}.toml").write_text(f'include = ["f{number + 1}.toml", "./f{number + 1}.toml"]\n')
    assert len(load_recipe(tmp_path / "f0.toml").stages) == 3


INCLUDES = {
    "circle": ({"a": "b", "b": "mine"}, "recipes include each other: mine.toml includes a.toml includes b.toml"),
    "itself": ({"a": "a"}, "recipes include each other: a.toml includes a.toml"),
    "long chain": (
        {"a": "f0", **{f"f{number}": f"f{number + 1}" for number in range(2 * MOST_FILES)}},
        "expected at most 100 files that include each other",
    ),
}


@pytest.mark.parametrize(("files", "message"), INCLUDES.values(), ids=INCLUDES)
def test_includes_without_end_are_errors(tmp_path, files, message):
    (tmp_path / "mine.toml").write_text('include = ["a.toml"]\n')
    for name, other in files.items():
        (tmp_path / f"{name}.toml").write_text(f'include = ["{other}.toml"]\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "mine.toml")
    assert message in str(caught.value)


def test_a_large_recipe_over_another_one_is_merged_in_little_time(tmp_path):
    """Removing what was replaced took a time that grew with the square of the keys."""
    keys = lines(20_000, "k{0} = 0")
    (tmp_path / "base.toml").write_text(f"{HEAD}[x]\n{keys}")
    start = time.process_time()
    (tmp_path / "mine.toml").write_text(f'include = ["base.toml"]\n[x]\n{keys}')
    with pytest.raises(RecipeError, match="unknown key 'x'"):
        load_recipe(tmp_path / "mine.toml")
    assert time.process_time() - start < SECONDS


PLACES = {
    "recipe": (None, "expected a file, got a pipe or a device"),
    "include": ('include = ["odd.toml"]\n' + HEAD, ":1:12: .*odd.toml: expected a file, got a pipe or a device"),
    "rules": (HEAD + '[stage.l]\nkind = "linearize"\nmodel = "at"\nrules = ["odd.toml"]', ":21:10: .*pipe or a device"),
    "superclasses": (HEAD.replace('"planted"', '"planted"\nhierarchy = "odd.toml"'), ":3:13: .*pipe or a device"),
    "reference": (
        HEAD + '[stage.c]\nkind = "cluster"\nmap = "map"\nsuperclasses = 2\nreference = "odd.toml"',
        ":22:13: .*pipe or a device",
    ),
    "model file": (HEAD.replace('model = "at"\nattacks', 'file = "odd.toml"\nattacks'), ":16:8: .*pipe or a device"),
}


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
@pytest.mark.parametrize(("text", "message"), PLACES.values(), ids=PLACES)
def test_pipes_and_devices_are_not_opened(tmp_path, make, text, message):
    make(tmp_path / "odd.toml")
    (tmp_path / "mine.toml").write_text(text or "")
    with pytest.raises(InputError, match=message):
        load_recipe(tmp_path / ("odd.toml" if text is None else "mine.toml"))


@pytest.mark.parametrize("key", ["a" + ".a" * 100_000, "x" * 100_000, "stage.at." + "[" * 1000, "\0", "'"])
def test_hostile_flags_are_errors(tmp_path, key):
    (tmp_path / "mine.toml").write_text(HEAD)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "mine.toml", [(key, "1")])
    assert "--set" in str(caught.value)


@pytest.mark.parametrize(
    "sizes",
    [["data.train_size=1000000000000"], ["data.image_size=10000000"], ["data.parameters.superclasses=100000000"]],
)
def test_absurd_amounts_of_generated_images_are_refused_before_memory_is_used(tmp_path, sizes):
    (tmp_path / "mine.toml").write_text(HEAD)
    overrides = [word for size in [*sizes, "data.train_size=1000000000000"] for word in ("--set", size)]
    result = CliRunner().invoke(app, ["run", str(tmp_path / "mine.toml"), "-o", str(tmp_path / "run"), *overrides])
    assert result.exit_code == 2, result.output
    assert "GB are free" in result.stderr


def test_the_command_line_says_it_and_exits_with_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("matrix = []\n" + HEAD)
    os.mkfifo("pipe.toml")
    for words in (["run", "mine.toml"], ["plan", "pipe.toml"], ["recipes", "check", "pipe.toml", "x" * 300]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2, result.output
        assert "error:" in result.stderr
        assert result.stdout == ""

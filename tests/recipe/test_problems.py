"""All mistakes of a recipe are reported together, with their positions and suggestions."""

import re

import pytest

from surgery.errors import InputError
from surgery.recipe import RecipeError

HUNDRED = list(range(100))

EDITS = {
    "unknown key": (
        "epochs = 20\noptimizer",
        "§epohcs = 20\noptimizer",
        "unknown key 'epohcs'; did you mean 'epochs'?",
    ),
    "missing key": (
        "[stage.robustness]\nkind",
        "§[stage.robustness]\nknid",
        "the key 'kind' is missing: one of train, lin",
    ),
    "type": ("epochs = 20\noptimizer", 'epochs = §"20"\noptimizer', "epochs: expected an integer, got '20'"),
    "no integer": ("epochs = 20\noptimizer", "epochs = §2.5\noptimizer", "epochs: expected an integer, got 2.5"),
    "bound": ("epochs = 20\noptimizer", "epochs = §0\noptimizer", "epochs: expected a number of at least 1, got 0"),
    "deep in a line": ("momentum = 0.9", "momentum = §true", "momentum: expected a number, got true"),
    "infinite": ("weight_decay = 2e-4", "weight_decay = §inf", "weight_decay: expected a finite number, got inf"),
    "no table": ("{ momentum = 0.9, weight_decay = 2e-4 }", "§3", "optimizer: expected a table, got 3"),
    "element": ("[7, 9]", '[7, §"9"]', "milestones: expected an integer, got '9'"),
    "order": ("[7, 9]", "§[9, 7]", "expected milestones that are increasing epochs"),
    "kind": (
        'kind = "pgd"',
        'kind = §"pdg"',
        "kind: expected 'standard', 'pgd', 'trades' or 'mart', got 'pdg'; did .*'pgd'",
    ),
    "no kind": ('{ kind = "multi-step", ', "§{ ", "the key 'kind' is missing: one of constant, multi-step"),
    "stage kind": ('"cluster"', '§"clsuter"', "unknown stage kind 'clsuter'; did you mean 'cluster'"),
    "attack kind": ('"fgsm"', '§"fgms"', "unknown attack 'fgms'; did you mean 'fgsm'"),
    "loss": ("003 }\ntargeted", '003, loss = §"margn" }\ntargeted', "loss: expected 'cross-entropy', .*'margin'"),
    "epsilon": ('"Linf", epsilon = "8/255"', '"Linf", epsilon = §8', "epsilon 8 is larger.*write 8/255"),
    "fraction": (
        '"Linf", epsilon = "8/255"',
        '"Linf", epsilon = §"8/x"',
        "epsilon: expected a number of at least 0 or a fr",
    ),
    "architecture": ('"convnet"', '§"convent"', "convent: unknown architecture; did you mean 'convnet'"),
    "argument": ("width = 8 }", "widht = §8 }", "convnet: unknown argument 'widht'; did you mean 'width'"),
    "classes": ("{ width = 8 }", "{ num_classes = §8 }", "num_classes follows from the data set"),
    "data set": ('"planted"', '§"plated"', "plated: unknown data set; .*did you mean 'planted'"),
    "parameter": (
        "train_size = 600",
        "parameters = { nose = §1 }",
        "planted: unknown argument 'nose'; did you mean 'noise'",
    ),
    "no validation": (
        "train_size = 600",
        "validation = §0.0",
        "validation: no images are held out on which stage at could",
    ),
    "missing stage": ('"at_linear"', '§"at_linaer"', "map: unknown stage 'at_linaer'; did you mean 'at_linear'"),
    "wrong kind": (
        '"at_linear"',
        '§"at"',
        "map = 'at' is a train stage; expected an extract stage; did you mean 'at_linear'",
    ),
    "no model": ('"at.last"', '§"hierarchy"', "model = 'hierarchy' is a cluster stage; expected a train stage"),
    "checkpoint": (
        '"at.last"',
        '§"at.lst"',
        "model = 'at.lst': the checkpoints .* are best and last; did you mean 'last'",
    ),
    "hierarchy": (
        '= "hierarchy"',
        '= §"hierarhcy"',
        "hierarchy = 'hierarhcy': unknown stage or hierarchy.*'hierarchy'",
    ),
    "known hierarchy": (
        '= "hierarchy"',
        '= §"cifar11"',
        "hierarchy = 'cifar11': unknown stage or hierarchy.*'cifar10'",
    ),
    "itself": ("[stage.atc]", '[stage.atc]\ninitial = §"atc"', "stage 'atc' refers to itself"),
    "no source": (
        '[stage.robustness]\nkind = "attack"\nmodel = "at.last"',
        '§[stage.robustness]\nkind = "attack"',
        "robustness: the network is missing; expected one of model, file",
    ),
    "two sources": ('model = "at.last"\n', 'model = "at.last"\nfile = §"mine.toml"\n', "model and file are given"),
    "no file": (
        'model = "at.last"\n',
        'model = "at"\nnetwork = §{ architecture = "convnet" }\n',
        "network belongs to a file",
    ),
    "file": ('model = "at.last"\n', 'file = §"none.pt"\n', ".*none.pt: no such file"),
    "rules": (
        'model = "at"\n',
        'model = "at"\nrules = [§"linearise"]\n',
        "unknown ruleset 'linearise'.*'linearize'",
    ),
    "superclasses": (
        "superclasses = 3",
        'superclasses = §"gpa"',
        "superclasses: expected an integer of at .*'gap' or .*'gap'",
    ),
    "name": ("[stage.robustness]", '[stage.§"rob ust"]', "'rob ust' is not a valid name; use a letter first"),
    "date": (
        "{ width = 8 }",
        "§{ width = 1979-05-27 }",
        "arguments: expected numbers, texts, lists and tables, got the date or time 1979-05-27",
    ),
    "section": ("[model]", "[§modle]", "unknown key 'modle'; did you mean 'model'"),
    "no network": (
        '[model]\narchitecture = "convnet"\narguments = { width = 8 }\n\n[stage.at]',
        "§[stage.at]",
        "stage at has no network to train; give the recipe a table",
    ),
    "matrix key": ("[recipe]", "[matrix]\n§sede = [1]\n[recipe]", "sede: expected `seed`, a key of"),
    "matrix path": (
        "[recipe]",
        '[matrix]\n§"stage.at.epoch" = [1]\n[recipe]',
        "unknown key 'epoch'; did you mean 'epochs'",
    ),
    "matrix value": (
        "[recipe]",
        '[matrix]\n"stage.at.epochs" = [1, §"two"]\n[recipe]',
        "epochs: expected an integer, got 'two'",
    ),
    "matrix stage": (
        "[recipe]",
        '[matrix]\n§"stage.atd.epochs" = [1]\n[recipe]',
        "stage.atd.epochs: unknown stage 'atd'; did",
    ),
    "matrix list": ("[recipe]", "[matrix]\nseed = §3\n[recipe]", "seed: expected a list of values, got 3"),
    "matrix twice": ("[recipe]", "[matrix]\nseed = §[3, 3]\n[recipe]", "seed: expected different values"),
    "matrix data": ("[recipe]", '[matrix]\n§"data.seed" = [3]\n[recipe]', "data.seed: a recipe has one data set"),
    "matrix report": (
        "[recipe]",
        '[matrix]\n§"stage.report.figures" = [[]]\n[recipe]',
        "stage.report.figures: a report is about",
    ),
    "matrix size": (
        "[recipe]",
        f'§[matrix]\nseed = {HUNDRED}\n"stage.at.epochs" = {HUNDRED}\n[recipe]',
        "matrix: expected at most 2000 stages with all repetitions, got",
    ),
    "syntax": ("[stage.at]", "[stage.at§", "Expected ']'"),
    "include missing": ("[recipe]", 'include = [§"none.toml"]\n[recipe]', ".*none.toml: no such file"),
    "include folder": ("[recipe]", 'include = [§".."]\n[recipe]', ".*: expected a file, got a folder"),
    "include itself": (
        "[recipe]",
        'include = [§"mine.toml"]\n[recipe]',
        "recipes include each other: mine.toml includes mine",
    ),
    "include no list": ("[recipe]", 'include = §"a"\n[recipe]', "include: expected a list"),
}
"""The text to replace, its replacement with a mark at the mistake, and the expected message."""


@pytest.mark.parametrize(("old", "new", "message"), EDITS.values(), ids=EDITS)
def test_a_mistake_is_said_at_its_place(load, chain, old, new, message):
    assert old in chain
    marked = chain.replace(old, new, 1)
    before = marked[: marked.index("§")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    text = marked.replace("§", "")
    with pytest.raises(InputError) as caught:
        load(text)
    said = re.sub(r"\s+", " ", str(caught.value))
    assert re.search(f"mine.toml:{line}:{column}: {message}", said), str(caught.value)


def test_stages_that_wait_for_each_other_are_named(load, chain):
    text = chain.replace("[stage.at]", '[stage.at]\ninitial = "atc"')
    with pytest.raises(
        RecipeError, match="stages refer to each other in a circle: at -> atc -> hierarchy -> at_linear -> at"
    ) as caught:
        load(text)
    [problem] = caught.value.problems
    assert problem.place.text == 'model = "at"', "the reference that closes the circle"


def test_six_mistakes_give_six_located_errors_in_one_go(load, chain):
    text = (
        chain.replace("convnet", "convent")
        .replace('kind = "multi-step"', 'kind = "multistep"')
        .replace("epochs = 20\noptimizer", "epohcs = 20\noptimizer")
        .replace('map = "at_linear"', 'map = "at"')
        .replace("targeted = true", 'targeted = "yes"')
    )
    with pytest.raises(RecipeError) as caught:
        load(text)
    told = [str(problem) for problem in caught.value.problems]
    places = [re.match(r".*mine\.toml:(\d+):(\d+): ", line).groups() for line in told]
    lines = text.splitlines()
    assert [lines[int(line) - 1].split(" ")[0] for line, _ in places] == [
        *("architecture", "[stage.at]", "epohcs", "schedule", "map", "targeted")
    ]
    for problem in caught.value.problems:
        line, caret = str(problem).split("\n")[1:]
        start = caret.index("^")
        assert line[start] in "\"['{e", "the caret is under the first character of what is wrong"
    hints = ["'convnet'", "'epochs' is missing", "'epochs'", "'multi-step'", "'at_linear'", "true or false"]
    assert all(hint in line for hint, line in zip(hints, told, strict=True))


def test_mistakes_in_an_included_file_are_said_there(load, chain, tmp_path):
    (tmp_path / "base.toml").write_text(chain.replace("convnet", "convent"))
    with pytest.raises(RecipeError) as caught:
        load('include = ["base.toml"]\n[stage.at]\nepochs = "5"\n')
    assert [str(problem).split(": ")[0].rpartition("/")[2] for problem in caught.value.problems] == [
        "base.toml:10:16",
        "mine.toml:3:10",
    ]


def test_syntax_errors_of_includes_are_said_there(load, tmp_path):
    (tmp_path / "base.toml").write_text("a = = 1\n")
    with pytest.raises(RecipeError, match=r"base\.toml:1:5"):
        load('include = ["base.toml"]\n')


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("stage.at.epochs", "two", "--set stage.at.epochs=two: epochs: expected an integer, got 'two'"),
        ("stage.at.epcohs", "2", "--set stage.at.epcohs=2: unknown key 'epcohs'; did you mean 'epochs'?"),
        ("stage.atd.epochs", "2", "--set stage.atd.epochs=2: unknown stage 'atd'; did you mean 'at'"),
        ("stagee.at", "2", "--set stagee.at=2: unknown key 'stagee'; did you mean 'stage'?"),
        ("stage.hierarchy.map", "at", "--set stage.hierarchy.map=at: map = 'at' is a train stage"),
        ("stage.at.epochs.x", "2", "--set stage.at.epochs.x=2: stage.at.epochs is not a table"),
        ("a..b", "1", "--set a..b=1: expected a dotted key"),
        ("", "1", "--set =1: expected a dotted key"),
        ("include", '["x"]', '--set include=["x"]: include can only be written in files'),
        ("matrix.seed", "3", "--set matrix.seed=3: seed: expected a list of values, got 3"),
    ],
)
def test_mistakes_in_overrides_name_the_flag(load, key, text, expected):
    with pytest.raises(RecipeError) as caught:
        load(overrides=[(key, text)])
    assert expected in str(caught.value)


def test_mistakes_of_file_and_flags_come_together(load, chain):
    with pytest.raises(RecipeError) as caught:
        load(chain.replace("convnet", "convent"), [("a..b", "1"), ("stage.at.epochs", "two")])
    assert len(caught.value.problems) == 3


def test_a_mistake_in_a_repeated_stage_is_said_once(load, chain):
    with pytest.raises(RecipeError) as caught:
        load(chain.replace("momentum = 0.9", "momentum = 2") + "\n[matrix]\nseed = [0, 1, 2]\n")
    assert len(caught.value.problems) == 1


def test_a_mistake_that_a_flag_makes_in_a_shared_table_is_said_once_and_at_the_flag(load):
    with pytest.raises(RecipeError) as caught:
        load(overrides=[("model.arguments.widht", "4")])
    assert [str(problem.place.text) for problem in caught.value.problems] == ["model.arguments.widht=4"]


def test_validation_images_that_no_stage_can_have_are_missed_before_anything_runs(load, chain):
    text = chain.replace("train_size = 600", "validation = 0.0").replace("every = 2", "every = 0")
    text = text.replace("[stage.atc]", "[stage.atc]\nselect.every = 0")
    text = text.replace('model = "at.last"', 'model = "at.last"\nsplit = "validation"')
    with pytest.raises(RecipeError, match="split: the data have no validation images that stage robustness could use"):
        load(text)


@pytest.mark.parametrize("name", ["natural", "worst_case"])
def test_an_attack_cannot_have_the_name_of_another_result(load, chain, name):
    with pytest.raises(RecipeError, match=rf"mine\.toml:44:9: an attack cannot be called '{name}'"):
        load(chain.replace("attacks.fgsm", f"attacks.{name}"))

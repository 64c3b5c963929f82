"""What a recipe loads to: defaults, order, includes, overrides, the matrix."""

import pytest

from surgery.errors import InputError
from surgery.recipe import RecipeError, load_recipe


def names(recipe):
    return [stage.name for stage in recipe.stages]


def test_defaults_are_filled_in(load):
    recipe = load()
    at = recipe.stage("at").parameters
    assert (recipe.name, recipe.seed, recipe.data.validation) == ("mine", 3, 0.05)
    assert (at.seed, at.network.architecture, at.network.arguments, at.batch_size) == (3, "convnet", {"width": 8}, 128)
    assert at.objective.attack.epsilon == 8 / 255
    assert (at.objective.attack.start, at.select.on, at.optimizer.nesterov) == ("uniform", "validation", False)
    assert recipe.stage("at_linear").parameters.rules == ("linearize",)


def test_a_stage_stands_behind_what_it_reads(load, chain):
    head, *stages = chain.split("\n[stage.")
    backwards = "\n[stage.".join([head, *reversed([*stages[:3], stages[3] + "\n[stage." + stages[4], *stages[5:]])])
    for text in (chain, backwards):
        order = names(load(text))
        assert sorted(order) == sorted(names(load()))
        for name in order:
            inputs = load(text).stage(name).inputs.values()
            assert all(order.index(item.stage) < order.index(name) for item in inputs)


def test_inputs_say_what_is_read(load):
    recipe = load()
    inputs = {stage.name: {role: str(item) for role, item in stage.inputs.items()} for stage in recipe.stages}
    assert inputs["at"] == {}
    assert inputs["at_linear"] == {"model": "at.best"}
    assert inputs["atc"] == {"objective.cluster.hierarchy": "hierarchy"}
    assert inputs["robustness"] == {"model": "at.last"}
    assert set(inputs["report"].values()) == set(names(recipe)) - {"report"}


def test_the_text_of_a_recipe_loads_to_the_same(load, chain):
    text = chain + '\n[matrix]\nseed = [0, 1]\n"stage.robustness.model" = ["at", "atc.last"]\n'
    recipe = load(text, [("stage.at.epochs", "7"), ("recipe.name", "other")])
    again = load(recipe.text, name="again.toml")
    assert again.stages == recipe.stages
    assert (again.name, again.data, again.text) == (recipe.name, recipe.data, recipe.text)
    assert recipe.stage("at@seed-0").parameters.epochs == 7


def test_the_matrix_repeats_only_what_depends_on_it(load, chain):
    fixed = chain.replace("[stage.robustness]\n", "[stage.robustness]\nseed = 5\n")
    recipe = load(fixed + '\n[matrix]\n"stage.atc.objective.beta" = [1, 6.5]\n')
    assert set(names(recipe)) == {
        *("at", "at_linear", "hierarchy", "robustness", "report"),
        *("atc@beta-1", "atc@beta-6.5", "confusion@beta-1", "confusion@beta-6.5"),
    }
    assert str(recipe.stage("confusion@beta-6.5").inputs["model"]) == "atc@beta-6.5.best"
    assert recipe.stage("atc@beta-6.5").parameters.objective.beta == 6.5
    assert recipe.stage("atc@beta-1").choice == {"stage.atc.objective.beta": 1}
    assert "atc@beta-1" in {item.stage for item in recipe.stage("report").inputs.values()}


def test_references_stay_inside_a_combination(load, chain):
    recipe = load(chain + '\n[matrix]\nseed = [0, 1]\n"stage.robustness.attacks.cw.steps" = [10, 30]\n')
    assert "at_linear@seed-1" in names(recipe)
    assert str(recipe.stage("atc@seed-1").inputs["objective.cluster.hierarchy"]) == "hierarchy@seed-1"
    robust = recipe.stage("robustness@seed-0+steps-30")
    assert (str(robust.inputs["model"]), robust.parameters.seed) == ("at@seed-0.last", 0)
    assert len([name for name in names(recipe) if name.startswith("robustness")]) == 4


def test_names_of_repetitions_are_legal_in_a_store(load, chain):
    from surgery.store.naming import check_name

    text = (
        chain
        + """
[matrix]
"stage.robustness.attacks.fgsm.epsilon" = ["8/255", "8-255"]
"stage.at.objective.attack" = [
  { epsilon = 0.1, steps = 1, step_size = 0.1 },
  { epsilon = 0.2, steps = 1, step_size = 0.1 },
]
"stage.at.objective.awp" = [{ gamma = 0.01 }]
"""
    )
    with pytest.raises(RecipeError, match="expected a number of at least 0 or a fraction, got '8-255'"):
        load(text)
    recipe = load(text.replace('"8-255"', '"4/255"'))
    assert "at@attack-2+awp-1" in names(recipe)
    assert "robustness@epsilon-8-255+attack-1+awp-1" in names(recipe)
    assert all(check_name(name, "group") for name in names(recipe))


def test_axes_with_the_same_last_key_are_told_apart(load, chain):
    recipe = load(chain + '\n[matrix]\n"stage.at.epochs" = [1, 2]\n"stage.atc.epochs" = [1, 2]\n')
    assert "at@epochs-1" in names(recipe)
    assert "atc@at.epochs-1+atc.epochs-2" in names(recipe)


def test_includes_are_merged_and_what_comes_later_wins(load, chain, tmp_path):
    (tmp_path / "base.toml").write_text(chain.replace("[recipe]", '[recipe]\nname = "base"'))
    recipe = load("""
include = ["base.toml"]
[stage.at]
epochs = 5
optimizer = { momentum = 0.5 }
schedule = { kind = "one-cycle", learning_rate = 0.2 }
""")
    at = recipe.stage("at").parameters
    assert (recipe.name, recipe.description, recipe.seed) == ("mine", "", 3)
    assert (at.epochs, at.optimizer.momentum, at.optimizer.weight_decay) == (5, 0.5, 2e-4)
    assert at.schedule.kind == "one-cycle", "another kind replaces the whole table"
    assert at.objective.attack.steps == 10


def test_shipped_recipes_are_included_by_name(load):
    recipe = load('include = ["quickstart"]\n[stage.at]\nepochs = 1\n')
    assert recipe.data.name == "planted"
    assert recipe.stage("at").parameters.epochs == 1


def test_an_include_is_read_once(load, chain, tmp_path):
    (tmp_path / "base.toml").write_text(chain)
    (tmp_path / "left.toml").write_text('include = ["base.toml"]\n[stage.at]\nepochs = 1\n')
    (tmp_path / "right.toml").write_text('include = ["base.toml"]\n[stage.at]\nbatch_size = 7\n')
    at = load('include = ["left.toml", "right.toml"]\n').stage("at").parameters
    assert (at.epochs, at.batch_size) == (1, 7)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("stage.at.epochs", "2", 2),
        ("stage.at.epochs", " 1_000 ", 1000),
        ("stage.at.objective.attack.epsilon", "4/255", 4 / 255),
        ("stage.at.objective.attack.epsilon", '"4/255"', 4 / 255),
        ("stage.at.optimizer.nesterov", "true", True),
        ('stage."at".network.architecture', "resnet18", "resnet18"),
        ("stage.at.augmentation.padding", "2", 2),
        ("stage.at.schedule.milestones", "[1, 2]", (1, 2)),
    ],
)
def test_overrides_are_toml_or_text(load, key, text, value):
    base = [("stage.at.network", '{ architecture = "convnet" }')]
    found = load(overrides=[*base, (key, text)]).stage("at").parameters
    for part in key.replace('"', "").split(".")[2:]:
        found = getattr(found, part)
    assert found == value


def test_a_matrix_can_be_set(load):
    recipe = load(overrides=[("matrix.seed", "[4, 5]"), ('matrix."stage.at.epochs"', "[1, 2]")])
    assert "at@seed-4+epochs-2" in names(recipe)


def test_paths_start_where_they_stand(load, chain, tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    classes = ["A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3"]
    (tmp_path / "inner" / "own.toml").write_text(f"[superclasses]\na = {classes[:4]}\nb = {classes[4:]}\n")
    (tmp_path / "inner" / "model.pt").write_bytes(b"x")
    (tmp_path / "inner" / "base.toml").write_text(
        chain.replace('hierarchy = "hierarchy"', 'hierarchy = "own.toml"').replace(
            'model = "at.last"', 'file = "model.pt"'
        )
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = load('include = ["inner/base.toml"]\n[data]\nroot = "images"\n')
    assert recipe.data.root == str(tmp_path / "images")
    assert recipe.stage("atc").parameters.objective.cluster.hierarchy == str(tmp_path / "inner" / "own.toml")
    assert recipe.stage("robustness").parameters.file == str(tmp_path / "inner" / "model.pt")
    assert load(overrides=[("data.root", "here")]).data.root == str(tmp_path / "elsewhere" / "here")


def test_a_stage_that_is_not_there_is_an_error_with_near_names(load):
    with pytest.raises(InputError, match=r"unknown stage 'at_linaer' of recipe mine(.|\n)*'at_linear'"):
        load().stage("at_linaer")


def test_an_unknown_recipe_is_an_error_with_near_names():
    with pytest.raises(
        InputError, match=r"unknown recipe 'quickstat': no shipped recipe and no file(.|\n)*'quickstart'"
    ):
        load_recipe("quickstat")


def test_two_loads_of_one_file_are_equal(load):
    assert load() == load()
    assert load() != load(overrides=[("stage.at.epochs", "2")])


@pytest.mark.parametrize("attack", ['"pgd"', "[1]", "5", "{ kind = [1], epsilon = 0.1 }"])
def test_an_attack_that_is_not_a_table_is_a_located_mistake(load, chain, attack):
    text = chain.replace(
        'select = { attack = { epsilon = "8/255", steps = 20, step_size = 0.003 }', f"select = {{ attack = {attack}"
    )
    assert text != chain
    with pytest.raises(RecipeError, match=r"mine\.toml:19:\d+: "):
        load(text)

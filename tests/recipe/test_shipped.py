"""The recipes that come with the package, and the pages that are written from the schema."""

import re
import tomllib
from pathlib import Path

import pytest

from surgery.recipe import load_recipe, schema, shipped
from surgery.recipe.reading import SHIPPED
from surgery.recipe.schema_docs import anchor, headings, schema_text, with_reference

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
NAMES = ("cifar10_atc", "cifar10_fast", "cifar10_small", "digits", "linear_model", "quickstart", "stl10")


def inputs(recipe):
    return {stage.name: {role: str(item) for role, item in stage.inputs.items()} for stage in recipe.stages}


def test_these_recipes_come_with_the_package():
    assert tuple(shipped()) == NAMES
    assert all(description.endswith(".") for description in shipped().values())


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_loads_and_names_the_schema(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description == shipped()[name]
    assert (SHIPPED / f"{name}.toml").read_text().startswith("#:schema ./recipe.schema.json\n")
    assert recipe.stages[-1].kind == "report"


@pytest.mark.parametrize("name", ["quickstart", "digits", "cifar10_atc", "cifar10_fast", "cifar10_small"])
def test_the_penalty_takes_the_hierarchy_of_the_robust_network(name):
    recipe = load_recipe(name)
    found = inputs(recipe)
    assert found["atc"] == {"objective.cluster.hierarchy": "at_hierarchy"}
    assert found["at_hierarchy"] == {"map": "at_linear"}
    assert found["at_linear"] == {"model": "at.best"}
    at, atc = recipe.stage("at").parameters, recipe.stage("atc").parameters
    same = {"objective": at.objective}
    assert atc.model_copy(update=same) == at, "the two trainings differ in the penalty alone"
    assert atc.objective.attack == at.objective.attack


def test_the_papers_settings_are_the_papers():
    recipe = load_recipe("cifar10_atc")
    for name in ("std", "at", "atc"):
        stage = recipe.stage(name).parameters
        assert (stage.epochs, stage.batch_size, stage.optimizer.momentum, stage.optimizer.weight_decay) == (
            *(200, 128, 0.9, 2e-4),
        )
        assert (stage.schedule.learning_rate, stage.schedule.milestones, stage.schedule.factor) == (0.1, (75, 90), 0.1)
        assert (stage.augmentation.padding, stage.augmentation.flip, stage.network.normalize) == (4, True, None)
    attack = recipe.stage("at").parameters.objective.attack
    assert (attack.epsilon, attack.steps, attack.step_size, attack.start) == (8 / 255, 10, 2 / 255, "uniform")
    attacks = recipe.stage("robustness@model-atc.last").parameters.attacks
    assert (attacks["pgd20"].steps, attacks["pgd20"].step_size) == (20, 0.003)
    assert (attacks["cw30"].kind, attacks["cw30"].steps, attacks["fgsm"].kind) == ("cw", 30, "fgsm")
    assert recipe.stage("at").parameters.select.on == "validation"
    linear = load_recipe("linear_model").stage("at").parameters
    assert (linear.epochs, linear.schedule.learning_rate, linear.network.architecture) == (100, 0.01, "linear")


def test_the_fast_and_small_recipes_change_what_they_say():
    fast, small = load_recipe("cifar10_fast"), load_recipe("cifar10_small")
    assert [stage.name for stage in fast.stages] == [stage.name for stage in load_recipe("cifar10_atc").stages]
    assert fast.stage("at").parameters.schedule.kind == "one-cycle"
    assert fast.stage("at").parameters.epochs == 30
    stage = small.stage("atc").parameters
    assert (stage.network.arguments, stage.objective.attack.steps) == ({"width": 16}, 5)
    assert stage.objective.cluster == fast.stage("atc").parameters.objective.cluster
    assert (small.data.train_size, small.data.test_size) == (12000, 1000)


def test_the_shipped_schema_is_current():
    text = (SHIPPED / "recipe.schema.json").read_text(encoding="utf-8")
    assert text == schema_text(), "python -m surgery.recipe.schema_docs"


def test_the_reference_page_is_current():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_reference(page), "python -m surgery.recipe.schema_docs"


def test_the_page_has_every_table_and_its_links_lead_to_headings():
    assert set(headings()) == {"RecipeFile", *schema()["$defs"]}
    page = PAGE.read_text(encoding="utf-8")
    anchors = [anchor(line.removeprefix("## ")) for line in page.splitlines() if line.startswith("## ")]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)


def described(table):
    return table.get("description") or "$ref" in table


def test_every_key_is_described():
    tables = [schema(), *schema()["$defs"].values()]
    assert all(described(value) for table in tables for value in table["properties"].values())
    extensions = {"ExtensionStage", "ExtensionAttackTable"}  # their other keys are those of the user's callable
    closed = [schema(), *(table for name, table in schema()["$defs"].items() if name not in extensions)]
    assert all(table["additionalProperties"] is False for table in closed)


def test_the_schema_knows_the_keys_of_shipped_recipes():
    properties = set(schema()["properties"])
    for name in NAMES:
        assert set(tomllib.loads((SHIPPED / f"{name}.toml").read_text())) <= properties


def test_the_example_of_the_page_loads(tmp_path):
    [example] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "example.toml").write_text(example)
    names = [stage.name for stage in load_recipe(tmp_path / "example.toml").stages]
    assert "robustness@model-atc.last" in names
    seeded = [stage.name for stage in load_recipe(tmp_path / "example.toml", [("matrix.seed", "[0, 1]")]).stages]
    assert {"at@seed-0", "at_linear@seed-0", "atc@seed-1", "robustness@model-at.last+seed-1"} <= set(seeded)

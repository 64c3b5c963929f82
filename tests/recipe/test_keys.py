"""A stage's key changes with what its result depends on, and with nothing else; the plan says what changed."""

import json

import pytest

from surgery.errors import InputError
from surgery.recipe import Sizes, StageRecord, preview_run, shipped, stage_keys, stage_records
from surgery.stages.cluster import ClusterStage
from surgery.stages.confusion import ConfusionStage

DATA = "d" * 64


def changed(before, after):
    """The stages with another key, by name."""
    one, other = stage_keys(before, DATA), stage_keys(after, DATA)
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        (("stage.robustness.attacks.cw.steps", "40"), {"robustness", "report"}),
        (("stage.confusion.targeted", "false"), {"confusion", "report"}),
        (("stage.hierarchy.superclasses", "2"), {"hierarchy", "atc", "confusion", "report"}),
        (("stage.atc.objective.cluster.weight", "0.2"), {"atc", "confusion", "report"}),
        (("stage.robustness.model", "at.best"), {"robustness", "report"}),
        (("stage.at.epochs", "21"), {"at", "at_linear", "hierarchy", "atc", "robustness", "confusion", "report"}),
        (("recipe.seed", "4"), {"at", "at_linear", "hierarchy", "atc", "robustness", "confusion", "report"}),
        (("stage.report.figures", "[]"), {"report"}),
        (("stage.robustness.batch_size", "7"), set()),
        (("data.root", "elsewhere"), set()),
        (("data.download", "false"), set()),
        (("recipe.name", "other"), set()),
        (("recipe.description", "other"), set()),
        (("stage.at.objective.attack.epsilon", "0.031372549019607843"), set()),
        (("stage.at.batch_size", "128"), set()),
    ],
)
def test_a_key_changes_with_its_stage_and_with_what_that_reads(load, override, stages):
    assert changed(load(), load(overrides=[override])) == stages


def test_comments_and_order_do_not_matter(load, chain):
    assert not changed(load(), load("# a comment\n" + chain.replace("epochs = 20\n", "epochs   = 20  # twenty\n")))
    head, *stages = chain.replace("[stage.atc.objective]", "[stage-atc.objective]").split("\n[stage.")
    turned = "\n[stage.".join([head, *reversed(stages)]).replace("[stage-atc.", "[stage.atc.")
    before, after = stage_keys(load(), DATA), stage_keys(load(turned), DATA)
    assert {name: before[name] for name in before} == {name: after[name] for name in before}


def test_the_name_of_a_stage_matters_to_reports_only(load, chain):
    renamed = load(chain.replace("at_linear", "weights"))
    before, after = stage_keys(load(), DATA), stage_keys(renamed, DATA)
    assert after["weights"] == before["at_linear"]
    assert after["atc"] == before["atc"]
    assert after["report"] != before["report"]


def test_data_and_versions_matter(load, monkeypatch):
    recipe = load()
    before = stage_keys(recipe, DATA)
    assert not set(before.values()) & set(stage_keys(recipe, "e" * 64).values())
    monkeypatch.setattr(ClusterStage, "version", 2)
    after = stage_keys(recipe, DATA)
    assert {name for name in before if before[name] != after[name]} == {"hierarchy", "atc", "confusion", "report"}


def test_what_files_hold_matters_and_not_where_they_are(load, chain, tmp_path):
    text = chain.replace('model = "at.last"', 'file = "model.pt"')
    (tmp_path / "model.pt").write_bytes(b"one")
    one = load(text)
    before = stage_keys(one, DATA)
    (tmp_path / "moved.pt").write_bytes(b"one")
    assert stage_keys(load(text.replace("model.pt", "moved.pt")), DATA) == before
    (tmp_path / "model.pt").write_bytes(b"two")
    after = stage_keys(one, DATA)
    assert {name for name in before if before[name] != after[name]} == {"robustness", "report"}
    (tmp_path / "model.pt").unlink()
    with pytest.raises(InputError, match=r"model\.pt: cannot be read"):
        stage_keys(one, DATA)


RULES = 'name = "own"\n[[rule]]\nname = "r"\nmatch = "relu(x)"\nrewrite = "{}"\n'


def test_what_rules_say_matters_and_not_their_comments(load, chain, tmp_path):
    text = chain.replace('model = "at"\n', 'model = "at"\nrules = ["own.toml"]\n')
    found = []
    for rules in (RULES.format("x"), "# why\n" + RULES.format("x"), RULES.format("gelu(x)")):
        (tmp_path / "own.toml").write_text(rules)
        found.append(stage_keys(load(text), DATA)["at_linear"])
    assert found[0] == found[1] != found[2]


def test_all_keys_of_a_recipe_differ():
    from surgery.recipe import load_recipe

    for name in shipped():
        found = stage_keys(load_recipe(name), DATA)
        assert len(set(found.values())) == len(found)


def whys(recipe, finished, data=DATA):
    return {stage.name: (stage.state, stage.why) for stage in preview_run(recipe, finished, data)}


def test_a_plan_says_what_is_there_and_why_the_rest_runs(load):
    finished = dict(stage_records(load(), DATA))
    assert set(whys(load(), {}).values()) == {("will run", "new")}
    assert set(whys(load(), finished).values()) == {("cached", "nothing changed")}
    other = load(overrides=[("stage.at.objective.attack.steps", "5"), ("stage.at.objective.attack.epsilon", "4/255")])
    found = whys(other, finished)
    assert found["at"] == (
        "will run",
        "parameters changed: objective.attack.epsilon 8/255 -> 4/255, objective.attack.steps 10 -> 5",
    )
    assert found["at_linear"] == ("will run", "input at.best changed")
    assert found["report"][1] == "input at, at_linear, hierarchy, atc and 2 more changed"
    assert whys(load(), finished, "e" * 64)["at"] == ("will run", "the data changed")


def test_a_plan_tells_of_versions_files_and_new_inputs(load, chain, tmp_path, monkeypatch):
    (tmp_path / "model.pt").write_bytes(b"one")
    recipe = load(chain.replace('model = "at.last"', 'file = "model.pt"'))
    finished = dict(stage_records(recipe, DATA))
    (tmp_path / "model.pt").write_bytes(b"two")
    monkeypatch.setattr(ConfusionStage, "version", 2)
    found = whys(recipe, finished)
    assert found["robustness"] == ("will run", "the content of file changed")
    assert found["confusion"] == ("will run", "version of the stage changed: 1 -> 2")
    more = load(chain + '\n[stage.more]\nkind = "extract"\nmodel = "atc"\n')
    assert whys(more, finished)["report"][1].endswith("input more is new")


def test_without_the_data_nothing_is_known_to_be_there(load):
    finished = dict(stage_records(load(), DATA))
    del finished["atc"]
    found = whys(load(), finished, None)
    assert {state for state, _ in found.values()} == {"will run"}
    assert "data were not loaded" in found["at"][1]
    assert found["atc"] == ("will run", "new")
    assert all(stage.key is None for stage in preview_run(load(), finished, None))


def test_a_key_alone_is_enough_to_be_there(load):
    keys = dict(stage_keys(load(), DATA))
    found = whys(load(), {**keys, "at": "0" * 64})
    assert found["at"] == ("will run", "something changed")
    assert found["at_linear"] == ("cached", "nothing changed")


def test_records_and_plans_are_json(load):
    for record in stage_records(load(), DATA).values():
        assert StageRecord.from_json(json.loads(json.dumps(record.as_json()))) == record
    preview = preview_run(load(), {}, DATA, sizes=Sizes(train=570, validation=30, test=100, classes=9))
    assert json.loads(json.dumps([stage.as_json() for stage in preview]))[0]["parameters"]["epochs"] == 20
    with pytest.raises(InputError, match="expected the record of a stage"):
        StageRecord.from_json({"key": "x"})


def test_the_cost_counts_passes(load):
    sizes = Sizes(train=570, validation=30, test=100, classes=9)
    found = {stage.name: stage.passes for stage in preview_run(load(), {}, None, sizes=sizes)}
    assert found["at"] == 20 * 570 * 11 + 10 * 30 * 21
    assert found["atc"] == 20 * 570 * 12 + 20 * 30
    assert found["robustness"] == 100 * (1 + 1 + 30)
    assert found["confusion"] == 100 * (1 + 8 * 20)
    assert (found["at_linear"], found["hierarchy"], found["report"]) == (9, 0, 0)

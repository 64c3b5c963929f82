"""Plan files that are damaged or made up: one clear message for each, before anything is done to the graph."""

import json
import os

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError, SurgeryError

EDIT = {
    "rule": "drop-activation",
    "ruleset": "linearize-keep-bn",
    "at": "_1",
    "into": "_0",
    "module_path": "1",
    "removed": [["_1", "relu"]],
    "added": [],
}
MISS = {"rule": "r", "ruleset": "s", "at": "_1", "module_path": "1", "reason": "because", "depth": 1}


@pytest.fixture(scope="module")
def graph():
    return surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))


@pytest.fixture
def plan(graph, tmp_path):
    """The content of a plan file for the graph."""
    surgery.save_plan(surgery.plan(graph, "linearize"), tmp_path / "plan.json")
    return json.loads((tmp_path / "plan.json").read_text())


def damaged(*path, value):
    """Replace the value at `path`."""

    def change(data):
        place = data
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return change


def deep(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


CONTENTS = [
    ("a plan that is a number", damaged("plan", value=3), ("plan: expected a table, got 3",)),
    ("a plan that is a list", damaged("plan", value=[]), ("plan: expected a table, got a list",)),
    ("a model that is a list", damaged("plan", "model", value=["x"]), ("plan.model:", "expected a text, got a list")),
    ("a digest that is a number", damaged("plan", "graph", value=1), ("plan.graph:", "expected a text, got 1")),
    ("rulesets that are a text", damaged("plan", "rulesets", value="linearize"), ("expected a list, got 'linearize'",)),
    ("a ruleset that is a number", damaged("plan", "rulesets", value=[1]), ("plan.rulesets.0: ", "expected a text")),
    ("very many rulesets", damaged("plan", "rulesets", value=["linearize"] * 1000), ("at most 100 in the list",)),
    ("an unknown ruleset", damaged("plan", "rulesets", value=["linearise"]), ("did you mean 'linearize'",)),
    ("edits that are a table", damaged("edit", value={}), ("edit: expected a list, got a table",)),
    ("an edit that is a text", damaged("edit", value=["x"]), ("edit: expected a table, got 'x'",)),
    ("an edit without its node", damaged("edit", value=[{**EDIT, "at": None}]), ("edit.0.at", "expected a text")),
    ("a node that is a list", damaged("edit", value=[{**EDIT, "at": []}]), ("expected a text, got a list",)),
    ("removed that is a number", damaged("edit", value=[{**EDIT, "removed": 7}]), ("expected a list, got 7",)),
    ("a pair of one", damaged("edit", value=[{**EDIT, "removed": [["x"]]}]), ("at least 2 in the list",)),
    ("a pair of three", damaged("edit", value=[{**EDIT, "added": [["x", "y", "z"]]}]), ("at most 2 in the list",)),
    ("deep lists", damaged("edit", value=[{**EDIT, "removed": deep(50)}]), ("edit.0.removed",)),
    ("an unknown key", damaged("edit", value=[{**EDIT, "att": "x"}]), ("edit.0.att: unknown key 'att'", "'at'")),
    (
        "floods of keys",
        damaged("edit", value=[{f"k{i}": 1 for i in range(9999)}]),
        ("unknown key", "more unknown keys"),
    ),
    ("floods of wrong edits", damaged("edit", value=[1] * 9999), ("edit.0", "and 9969 more mistakes")),
    ("a depth that is a number with a point", damaged("near_miss", value=[{**MISS, "depth": 1.5}]), ("an integer",)),
    ("a depth that is huge", damaged("near_miss", value=[{**MISS, "depth": "9" * 5000}]), ("an integer",)),
    ("another graph", damaged("plan", "graph", value="0" * 32), ("expected a plan for this graph (Sequential)",)),
    ("a name with escapes", damaged("plan", value={"model": "\x1b[31m", "graph": "0", "rulesets": []}), (r"\x1b[31m",)),
    ("no plan", lambda data: data.pop("plan"), ("the key 'plan' is missing",)),
    ("a rule that is not there", damaged("edit", value=[{**EDIT, "rule": "x"}]), ("names the rule 'x'",)),
    (
        "a node that is not there",
        damaged("edit", value=[{**EDIT, "at": "\x1bnowhere"}]),
        (r"\x1bnowhere", "no such node"),
    ),
]


@pytest.mark.parametrize(("name", "change", "messages"), CONTENTS, ids=[case[0] for case in CONTENTS])
def test_wrong_content(tmp_path, graph, plan, name, change, messages):
    change(plan)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(plan))
    with pytest.raises(SurgeryError) as caught:
        surgery.apply(surgery.load_plan(path, graph))
    assert all(message in str(caught.value) for message in messages), str(caught.value)
    assert len(str(caught.value)) < 20_000


TABLES = [
    ("a plan that is a number", "plan = 1", ":1:8: plan: expected a table, got 1"),
    ("edits that are no tables", "edit = [1]", ":1:9: edit: expected a table, got 1"),
    ("a wrong type inside", "[[edit]]\nrule = 5", ":2:8: rule: expected a text, got 5"),
    ("no plan", "[[edit]]", "the key 'plan' is missing"),
    ("no edit", "[plan]\nmodel = 'm'\ngraph = 'g'\nrulesets = []", "expected a plan for this graph"),
    ("an unknown key", "[plan]\nmodle = 'm'", ":2:1: unknown key 'modle'; did you mean 'model'?"),
    ("deep lists", f"plan = {'[' * 5000}{']' * 5000}", "nested"),
]


@pytest.mark.parametrize(("name", "text", "message"), TABLES, ids=[case[0] for case in TABLES])
def test_wrong_content_of_toml_is_pointed_at(tmp_path, graph, name, text, message):
    path = tmp_path / "damaged.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        surgery.load_plan(path, graph)
    assert message in str(caught.value)


BYTES = [
    ("a list", b"[1, 2]", "expected a JSON object, got a list"),
    ("a number", b"1e999", "expected a JSON object, got inf"),
    ("nothing but a brace", b"{", "not JSON"),
    ("deep lists", b"[" * 200_000, "nested too deeply"),
    ("deep objects", b'{"a":' * 200_000, "nested too deeply"),
    ("a number of many digits", b"9" * 100_000, "not JSON"),
    ("bytes that are no text", b"\xff\xfe\x00{", "not JSON"),
    ("half a character", b'{"plan": "\xc3"}', "not JSON"),
    ("an empty file", b"", "the file is empty"),
]


@pytest.mark.parametrize(("name", "content", "message"), BYTES, ids=[case[0] for case in BYTES])
def test_files_that_hold_something_else(tmp_path, graph, name, content, message):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        surgery.load_plan(path, graph)


def test_files_that_are_no_files(tmp_path, graph, monkeypatch):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name, message in (("pipe.json", "a pipe"), ("folder.json", "a folder"), ("none.json", "no such file")):
        with pytest.raises(InputError, match=message):
            surgery.load_plan(tmp_path / name, graph)
    monkeypatch.setattr("surgery.rewrite.planfile._LARGEST", 10)
    (tmp_path / "large.json").write_text('{"plan": "too large"}')
    with pytest.raises(InputError, match="expected a plan of at most"):
        surgery.load_plan(tmp_path / "large.json", graph)

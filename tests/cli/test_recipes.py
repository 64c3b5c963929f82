"""`surgery recipes`: shipped recipes listed, shown and copied; any recipe checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from surgery.recipe import load_recipe, shipped
from surgery_cli.main import app


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recipes(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["recipes", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def data(*words: object, code: int = 0) -> Any:
    return json.loads(recipes(*words, "--json", code=code).stdout)


def test_ls() -> None:
    found = {item["name"]: item["description"] for item in data("ls")["recipes"]}
    assert found == dict(shipped())
    text = recipes("ls").stdout
    assert all(name in text and said in text for name, said in found.items())


def test_show() -> None:
    text = recipes("show", "cifar10_small").stdout
    assert text.startswith("#:schema")
    assert 'include = ["cifar10_fast.toml"]' in text
    whole = recipes("show", "cifar10_small", "--set", "seed=3", "--whole", code=2)
    assert "--set seed=3" in whole.stderr
    whole = recipes("show", "cifar10_small", "--set", "recipe.seed=3").stdout
    assert "include" not in whole
    assert "seed = 3" in whole
    assert data("show", "cifar10_small")["text"] == text


@pytest.mark.parametrize("name", ["quickstart", "cifar10_small"])
def test_copies_load_to_the_same(name: str) -> None:
    written = data("cp", name, "mine.toml")["written"]
    assert written[0] == "mine.toml"
    assert "recipe.schema.json" in written
    copied = load_recipe("mine.toml")
    assert copied.stages == load_recipe(name).stages
    assert Path("mine.toml").read_text().startswith("#:schema ./recipe.schema.json")


def test_copy_never_overwrites_another_file() -> None:
    recipes("cp", "quickstart")
    recipes("cp", "quickstart")
    mine = Path("quickstart.toml")
    mine.write_text("# mine\n")
    assert "already exists: quickstart.toml" in recipes("cp", "quickstart", code=2).stderr
    assert mine.read_text() == "# mine\n"
    recipes("cp", "quickstart", "--force")
    assert load_recipe("quickstart.toml").stages


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quickstrt"], "did you mean 'quickstart'?"),
        (["cifar10_small", "cifar10_fast.toml"], "includes a recipe of this name"),
        (["quickstart", "somewhere"], "expected a TOML file"),
        (["quickstart", "nowhere/mine.toml"], "does not exist"),
    ],
)
def test_copies_that_cannot_be(words: list[str], said: str) -> None:
    assert said in recipes("cp", *words, code=2).stderr
    assert not list(Path().iterdir())


def test_check_of_sound_recipes(tiny: Path) -> None:
    text = recipes("check", tiny, "linear_model").stdout
    assert f"{tiny}: no mistakes, 5 stages" in text
    assert "linear_model: no mistakes" in text
    assert "robustness" in text


def test_check_of_all_that_is_wrong(tiny: Path) -> None:
    bad = tiny.with_name("bad.toml")
    bad.write_text(tiny.read_text().replace("epochs", "epoch").replace('model = "at"', 'model = "att"'))
    result = recipes("check", bad, tiny, "nowhere.toml", code=2)
    assert "error: 4 problems" in result.stderr
    assert f"{bad}:16:1: unknown key 'epoch'" in result.stderr
    assert "nowhere.toml: no such file" in result.stderr
    assert "no mistakes" in result.stdout
    found = data("check", bad, tiny, "nowhere.toml", code=2)["recipes"]
    assert [item["sound"] for item in found] == [False, True, False]
    assert {(problem["line"], problem["column"]) for problem in found[0]["problems"]} >= {(16, 1), (23, 9)}
    assert found[1]["stages"] == ["at", "at_linear", "hierarchy", "robustness", "report"]
    assert found[2]["problems"][0]["message"] == "nowhere.toml: no such file"


def test_schema_is_the_one_beside_shipped_recipes() -> None:
    recipes("cp", "quickstart")
    assert json.loads(recipes("schema").stdout) == json.loads(Path("recipe.schema.json").read_text())

"""`--json`: one object on stdout and nothing else, whatever happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from surgery_cli.console import json_text
from surgery_cli.main import app

SMALL = ["--arch", "resnet18", "--arg", "width=4", "--num-classes", "4"]


def surgery(*words: object, code: int) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_linearize(tmp_path: Path) -> None:
    data = surgery("linearize", *SMALL, "-o", tmp_path / "out.safetensors", code=0)
    assert data["counts"]["batch_norm"] == {"before": 20, "after": 0}
    assert data["edits_by_rule"]["drop-activation"] == 17
    assert len(data["edits"]) == 37
    assert data["certificate"]["affine"]
    assert data["certificate"]["scales"]["conv1"] > 0
    assert data["written"] == str(tmp_path / "out.safetensors")
    assert "error" not in data


def test_broken_promise_comes_with_its_data() -> None:
    data = surgery("apply", "--model", "torch.nn:ReLU", "--input", "3x8x8", "--rules", "linear-attention", code=1)
    assert data["error"]["type"] == "CertificateError"
    assert data["certificate"]["offenders"][0]["operation"] == "relu"
    assert data["written"] is None


def test_dry_run() -> None:
    data = surgery("linearize", *SMALL, "--plan", code=0)
    assert data["certificate"] is None
    assert data["offenders"] == []


def test_certify() -> None:
    assert surgery("certify", *SMALL, code=1)["certificate"]["verdict"] == "nonlinear"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["linearize", "nowhere.pt"], "InputError"),
        (["linearize", "--arch", "resnet17"], "InputError"),
        (["linearize", "--no-such-option"], "UsageError"),
        (["no-such-command"], "UsageError"),
        (["apply", *SMALL, "--rules", "nowhere.toml"], "InputError"),
        (["rules", "nowhere"], "RuleError"),
        (["linearize", "--model", "torch.nn:Bilinear", "--arg", "in1_features=1", "--input", "1x1x1"], "ArgumentError"),
        (["inspect", "x", "-o", "graph.png"], "InputError"),
    ],
)
def test_errors_are_data_too(words: list[str], kind: str) -> None:
    data = surgery(*words, code=2)
    assert list(data) == ["error"]
    assert data["error"]["type"] == kind
    assert data["error"]["message"]
    assert set(data["error"]) == {"type", "message", "hint"}


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery.linear.certify", interrupted)
    assert surgery("certify", *SMALL, code=130)["error"]["type"] == "Interrupted"


def test_option_after_two_dashes_is_a_word_like_any_other() -> None:
    result = CliRunner().invoke(app, ["linearize", "--", "--json"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "--json: no such file" in result.stderr


def test_numbers_that_json_does_not_have_are_text() -> None:
    assert json.loads(json_text({"a": [float("inf"), float("nan"), 1.5]})) == {"a": ["inf", "nan", 1.5]}


def test_rules_and_doctor() -> None:
    listed = {item["name"]: item for item in surgery("rules", code=0)["rulesets"]}
    assert listed["linearize"]["promise"] == "affine"
    assert surgery("rules", "linearize", code=0)["rules"][-1]["match"] == "batch_norm(x)"
    health = surgery("doctor", code=0)
    assert all(check["works"] for check in health["checks"].values())
    assert health["packages"]["torch"]


def test_inspect_and_diff(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    surgery("linearize", *SMALL, "-o", out, code=0)
    assert surgery("inspect", out, code=0)["model"] == "ResNet"
    assert surgery("inspect", out, "--format", "dot", code=0)["text"].startswith("digraph")
    written = surgery("inspect", out, "-o", tmp_path / "graph.svg", code=0)
    assert written == {"written": str(tmp_path / "graph.svg"), "format": "svg"}
    assert surgery("diff", out, out, code=0)["removed"] == []

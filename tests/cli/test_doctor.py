"""`surgery doctor`: what is installed, what is missing, what is too old."""

from __future__ import annotations

import json
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from surgery_cli.commands import doctor
from surgery_cli.main import app

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"nothing is wrong": lambda: "really"})


def facts(code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_every_dependency_and_every_extra_of_a_user_is_listed() -> None:
    found = facts()
    assert sorted(found["packages"]) == sorted(text.partition(">")[0] for text in PROJECT["dependencies"])
    assert set(found["extras"]) == set(PROJECT["optional-dependencies"]) - {"docs", "test"}
    assert found["too_old"] == {}
    assert set(found["folders"]) == {"data sets", "weights of torchvision", "weights of timm"}
    assert found["memory"].endswith("GB free")


def test_a_package_that_is_too_old_is_named_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.0+cpu" if name == "torch" else version(name))
    assert set(facts(code=1)["too_old"]) == {"torch"}
    result = CliRunner().invoke(app, ["doctor"])
    assert "2.9.0+cpu, too old: at least 2." in result.stdout


def test_a_missing_extra_says_how_to_install_it_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_timm(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_timm)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "pip install 'model-surgery[timm]'" in result.stdout


def test_a_check_that_fails_is_named_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"numbers divide": lambda: str(1 / 0)})
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stdout

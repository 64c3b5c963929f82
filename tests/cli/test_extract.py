"""`surgery extract` and `surgery cluster`: from a model to superclasses in a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import surgery
from surgery.graph import weight_digest
from surgery.models import build
from surgery.store import list_groups, read_group
from surgery_cli.main import app

SMALL = ["--arch", "resnet18", "--arg", "width=4", "--input", "3x16x16"]


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is not changed."""
    path = tmp_path_factory.mktemp("extracted") / "W.h5"
    run("extract", *SMALL, "--class-names", "cifar10", "-o", path)
    return path


@pytest.fixture
def store(extracted: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copy(extracted, tmp_path / "W.h5"))


def test_extract_writes_the_map_of_the_model(store: Path) -> None:
    group = read_group(store, "linear")
    torch.manual_seed(0)
    result = surgery.linearize(build("resnet18", width=4), torch.zeros(1, 3, 16, 16))
    expected = surgery.extract(result.module)
    np.testing.assert_allclose(group["weight"], expected.weight.numpy(), rtol=1e-4, atol=1e-6)
    assert group["class"].tolist()[3] == "cat"
    np.testing.assert_allclose(group["correlation"], surgery.correlate(expected).numpy(), atol=1e-5)
    assert group.provenance["seeds"] == '{"weights": 0}'


def test_provenance_names_the_model_and_its_weights(store: Path, tmp_path: Path) -> None:
    provenance = read_group(store, "linear").provenance
    parameters = json.loads(provenance["parameters"])
    torch.manual_seed(0)
    model = build("resnet18", width=4)
    assert parameters["weight_digest"] == weight_digest(model)
    assert parameters["model_source"] == "resnet18 with random weights (seed 0)"
    assert parameters["arguments"] == ["width=4"]
    assert "model_file" not in parameters
    assert "None" not in provenance["parameters"]
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    run("extract", tmp_path / "weights.pt", *SMALL, "--group", "file", "-o", store)
    parameters = json.loads(read_group(store, "file").provenance["parameters"])
    assert parameters["weight_digest"] == weight_digest(model)
    assert parameters["model_file"] == str(tmp_path / "weights.pt")


def test_cluster_adds_superclasses_and_scores(store: Path) -> None:
    said = json.loads(run("cluster", store, "--reference", "cifar10", "--json"))
    group = read_group(store, "hierarchy")
    assert [item.name for item in list_groups(store)] == ["linear", "hierarchy"]
    assert said["scores"]["p_value"] == group.attributes["p_value"]
    assert sorted(name for members in said["superclasses"] for name in members) == sorted(group["class"].tolist())
    assert group["block_matrix"].shape == (10, 10)
    assert group["reference_superclass"].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


def test_a_group_is_replaced_only_on_request(store: Path) -> None:
    run("cluster", store)
    run("cluster", store, code=2)
    run("cluster", store, "--superclasses", "gap", "--centered", "--replace")
    assert read_group(store, "hierarchy").attributes["correlation"] == "correlation_centered"


def test_a_saved_linear_graph_is_taken_as_it_is(tmp_path: Path) -> None:
    run("linearize", *SMALL, "-o", tmp_path / "linear.safetensors")
    said = json.loads(run("extract", tmp_path / "linear.safetensors", "-o", tmp_path / "W.h5", "--json"))
    assert said["weight"] == [10, 3, 16, 16]
    inner = run(
        "extract", tmp_path / "linear.safetensors", "--at", "layer1", "--group", "layer1", "-o", tmp_path / "W.h5"
    )
    assert "1024x3x16x16" in inner


@pytest.mark.parametrize(
    "arguments",
    [
        ["--class-names", "a,b"],
        ["--class-names", "a,a,a,a,a,a,a,a,a,a"],
        ["--at", "layer9"],
        ["--rules", "linearise"],
        ["-o", "missing/W.h5"],
    ],
)
def test_bad_options_of_extract_leave_no_store(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("extract", *SMALL, "-o", "W.h5", *arguments, code=2)
    assert not list(tmp_path.rglob("*.h5"))


def test_a_model_that_stays_nonlinear_fails_with_its_offenders(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["extract", *SMALL, "--rules", "fold-batch-norm", "-o", str(tmp_path / "W.h5")])
    assert result.exit_code == 1
    assert "relu" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--superclasses", "many"],
        ["--superclasses", "99"],
        ["--reference", "cifar"],
        ["--from", "nothing"],
        ["--reference", "stl10"],
    ],
)
def test_bad_options_of_cluster_are_clear_errors(store: Path, arguments: list[str]) -> None:
    run("cluster", store, *arguments, code=2)
    assert [item.name for item in list_groups(store)] == ["linear"]

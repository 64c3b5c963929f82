"""Class names from a checkpoint to the last figure, and superclasses that are matched by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import surgery
from surgery.errors import InputError
from surgery.models import Checkpoint, build, open_model, save_checkpoint
from surgery.store import read_group
from surgery_cli.main import app

NAMES = ("truck", "cat", "car", "dog", "bus", "horse")
REFERENCE = '[superclasses]\nanimals = ["cat", "dog", "horse"]\nvehicles = ["bus", "car", "truck"]\n'
ANIMAL = torch.tensor([name in ("cat", "dog", "horse") for name in NAMES])


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def save(path: Path, *, names: tuple[str, ...] | None = NAMES, zero: int | None = None) -> Path:
    """A checkpoint of a linear network whose superclasses are those of REFERENCE; the weights of `zero` are zero."""
    torch.manual_seed(0)
    arguments = {"num_classes": len(NAMES), "input_size": 4}
    network = build("linear", **arguments)
    shared = torch.randn(2, 48)
    with torch.no_grad():
        network.linear.weight.copy_(shared[ANIMAL.long()] + 0.3 * torch.randn(6, 48))
        if zero is not None:
            network.linear.weight[zero] = 0.0
    checkpoint = Checkpoint(
        architecture="linear",
        arguments=arguments,
        input_shape=(3, 4, 4),
        class_names=names,
        state=network.state_dict(),
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "superclasses.toml"
    path.write_text(REFERENCE)
    return path


def test_names_of_a_checkpoint_reach_the_graph_its_file_and_w(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors")
    opened = open_model(path)
    graph = surgery.trace(opened.module, torch.zeros(1, 3, 4, 4))
    assert opened.class_names == graph.class_names == NAMES
    linear = surgery.linearize(surgery.load_model(path), torch.zeros(1, 3, 4, 4))
    assert linear.module.class_names == surgery.extract(linear).class_names == NAMES
    surgery.save_graph(linear.module, tmp_path / "linear.safetensors")
    assert surgery.load_graph(tmp_path / "linear.safetensors").class_names == NAMES
    assert open_model(tmp_path / "linear.safetensors").class_names == NAMES
    assert surgery.extract(linear, class_names=tuple("abcdef")).class_names == tuple("abcdef")
    with pytest.raises(InputError, match="expected 6 class names"):
        surgery.extract(linear, class_names=("a", "b"))


def test_commands_carry_names_from_the_checkpoint_to_the_superclasses(tmp_path: Path, reference: Path) -> None:
    """A reference in another order found the right superclasses, and scored them -0.11."""
    save(tmp_path / "best.safetensors")
    run("linearize", tmp_path / "best.safetensors", "-o", tmp_path / "linear.safetensors")
    run("extract", tmp_path / "linear.safetensors", "-o", tmp_path / "W.h5")
    assert tuple(read_group(tmp_path / "W.h5", "linear")["class"]) == NAMES
    said = json.loads(run("cluster", tmp_path / "W.h5", "--reference", reference, "--json").stdout)
    assert said["scores"]["adjusted_rand_index"] == 1.0
    assert said["scores"]["block_contrast"] > 0.5
    assert ["truck", "car", "bus"] in said["superclasses"]
    shown = run("results", "show", tmp_path / "W.h5", "linear", "--variable", "correlation").output
    assert "truck" in shown


def test_classes_without_names_are_refused_and_named_by_an_option(tmp_path: Path, reference: Path) -> None:
    save(tmp_path / "best.safetensors", names=None)
    run("extract", tmp_path / "best.safetensors", "-o", tmp_path / "W.h5")
    refused = run("cluster", tmp_path / "W.h5", "--reference", reference, code=2)
    assert "the classes have no names, only the numbers 0 to 5" in refused.output
    assert "--class-names" in refused.output
    named = ["--class-names", ",".join(NAMES)]
    said = json.loads(run("cluster", tmp_path / "W.h5", "--reference", reference, *named, "--json").stdout)
    assert said["scores"]["adjusted_rand_index"] == 1.0
    assert tuple(read_group(tmp_path / "W.h5", "hierarchy")["class"]) == NAMES


def test_other_names_than_those_in_the_store_are_refused(tmp_path: Path) -> None:
    run("extract", save(tmp_path / "best.safetensors"), "-o", tmp_path / "W.h5")
    refused = run("cluster", tmp_path / "W.h5", "--class-names", "a,b,c,d,e,f", code=2)
    assert "have other names, truck, cat, car, dog" in refused.output
    refused = run("cluster", tmp_path / "W.h5", "--reference", "cifar10", code=2)
    assert "the hierarchy has no class 'car'" in refused.output


@pytest.mark.parametrize("zero", [0, 3])
def test_a_class_without_weights_leaves_w_and_nan_in_c(tmp_path: Path, zero: int) -> None:
    result = run("extract", save(tmp_path / "best.safetensors", zero=zero), "-o", tmp_path / "W.h5")
    assert f"correlation is NaN for {NAMES[zero]}: the weight vector is zero" in result.output
    group = read_group(tmp_path / "W.h5", "linear")
    undefined = np.isnan(group["correlation"])
    assert undefined[zero].all()
    assert undefined[:, zero].all()
    assert undefined.sum() == 11
    assert not np.isnan(group["weight"]).any()
    assert not np.isnan(group["correlation_centered"]).any()
    assert NAMES[zero] in str(group.attributes["correlation_undefined"])
    refused = run("cluster", tmp_path / "W.h5", code=2)
    assert f"correlation in the group 'linear' is NaN for {NAMES[zero]}" in refused.output
    run("cluster", tmp_path / "W.h5", "--centered")


def test_a_single_output_has_w_without_centered_correlations(tmp_path: Path) -> None:
    run("extract", "--arch", "linear", "--arg", "input_size=4", "--num-classes", 1, "-o", tmp_path / "W.h5")
    group = read_group(tmp_path / "W.h5", "linear")
    assert group["correlation"].tolist() == [[1.0]]
    assert np.isnan(group["correlation_centered"]).all()
    assert group["weight"].shape == (1, 3, 4, 4)


def test_correlations_are_computed_or_left_out_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.stages import extract

    model = ["--arch", "convnet", "--arg", "width=2", "--input", "3x8x8", "-o", tmp_path / "W.h5"]
    assert "(--correlation computes them)" not in run("extract", *model, "--no-correlation", "--group", "none").output
    monkeypatch.setattr(extract, "MOST_CORRELATED", 5)
    said = run("extract", *model, "--at", "features", "--group", "inner").output
    assert "rows of W were left out (--correlation computes them)" in said
    run("extract", *model, "--at", "features", "--group", "asked", "--correlation")
    run("extract", *model, "--group", "output")
    has = {
        name: "correlation" in {item.name for item in read_group(tmp_path / "W.h5", name).variables}
        for name in ("none", "inner", "asked", "output")
    }
    assert has == {"none": False, "inner": False, "asked": True, "output": True}
    refused = run("cluster", tmp_path / "W.h5", "--from", "inner", code=2)
    assert "has no correlations" in refused.output

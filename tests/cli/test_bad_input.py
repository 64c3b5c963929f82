"""Whatever is wrong with what the user gave: exit code 2, one clear message, no traceback, no file half written."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from typer.testing import CliRunner

from surgery.models import build
from surgery_cli.main import app

SMALL = ["--arch", "resnet18", "--arg", "width=4", "--num-classes", "4"]


class TwoInputs(nn.Module):
    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return images * mask


class ByValue(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return build("resnet18", width=4, num_classes=4).state_dict()


def refused(*words: object, folder: Path) -> str:
    """Run `surgery` with `words`, which it has to refuse properly; return what it says, in one line."""
    there = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sum(line.startswith("error:") for line in result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    assert sorted(folder.rglob("*")) == there, "nothing is written, not even in part"
    return result.stderr


def rules(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\n\n[[rule]]\nname = "one"\n{text}\n')
    return path


def apply_rules(folder: Path, text: str, *more: str) -> str:
    path = rules(folder, text)
    return refused("apply", *SMALL, "--rules", path, "-o", folder / "out.safetensors", *more, folder=folder)


# Files


def test_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    message = refused("linearize", tmp_path / "modle.pt", folder=tmp_path)
    assert "modle.pt: no such file" in message
    assert "'model.pt'" in message


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    assert "empty" in refused("linearize", tmp_path / "model.pt", *SMALL, folder=tmp_path)


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert "folder" in refused("certify", tmp_path, folder=tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_truncated_file(tmp_path: Path, state: dict[str, torch.Tensor], name: str) -> None:
    path = tmp_path / name
    (torch.save if path.suffix == ".pt" else safetensors.torch.save_file)(state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert name in refused("linearize", path, *SMALL, "-o", tmp_path / "out.pt2", folder=tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.pt2", "model"])
def test_foreign_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    assert name in refused("inspect", path, *SMALL, folder=tmp_path)


def test_pickled_module_is_refused_with_the_safe_ways_out(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Flatten()), tmp_path / "model.pt")
    message = refused("linearize", tmp_path / "model.pt", "--input", "3x8x8", folder=tmp_path)
    assert "--trust-pickle" in message
    assert "Sequential" in message


def test_plain_pickle(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": print}))
    assert "model.pkl" in refused("certify", tmp_path / "model.pkl", *SMALL, folder=tmp_path)


def test_state_dict_without_an_architecture(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "model.pt")
    assert "--arch" in refused("linearize", tmp_path / "model.pt", folder=tmp_path)


def test_state_dict_of_another_architecture(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "model.pt")
    message = refused("linearize", tmp_path / "model.pt", "--arch", "vgg11", folder=tmp_path)
    assert "missing" in message


def test_weights_that_are_not_numbers(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    broken = {**state, "conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}
    torch.save(broken, tmp_path / "model.pt")
    message = refused("linearize", tmp_path / "model.pt", *SMALL, folder=tmp_path)
    assert "conv1.weight" in message
    assert "NaN" in message


# Options


@pytest.mark.parametrize("name", ["resnet17", "torchvision:resnet17", "somewhere:resnet18"])
def test_unknown_architecture(tmp_path: Path, name: str) -> None:
    assert name in refused("linearize", "--arch", name, folder=tmp_path)


@pytest.mark.parametrize("text", ["3x32", "3x32x32x32", "axbxc", "3x0x32", "", "3x-1x3"])
def test_input_shape_that_is_none(tmp_path: Path, text: str) -> None:
    message = refused("linearize", *SMALL, "--input", text, folder=tmp_path)
    assert "CHANNELSxHEIGHTxWIDTH" in message
    assert "--input 3x224x224" in message


def test_input_shape_that_the_model_refuses(tmp_path: Path) -> None:
    message = refused("linearize", *SMALL, "--input", "5x32x32", folder=tmp_path)
    assert "(1, 5, 32, 32)" in message
    assert "resnet.py:" in message


def test_input_shape_that_nothing_says(tmp_path: Path) -> None:
    message = refused("linearize", "--model", "torch.nn:Identity", folder=tmp_path)
    assert "--input" in message


def test_input_shape_of_a_graph_cannot_be_changed(tmp_path: Path) -> None:
    graph = tmp_path / "graph.safetensors"
    assert CliRunner().invoke(app, ["linearize", *SMALL, "-o", str(graph)]).exit_code == 0
    assert "3x32x32" in refused("certify", graph, "--input", "3x64x64", folder=tmp_path)


@pytest.mark.parametrize("text", ["width", "=4", "two words=4"])
def test_argument_that_is_none(tmp_path: Path, text: str) -> None:
    assert "KEY=VALUE" in refused("linearize", "--arch", "resnet18", "--arg", text, folder=tmp_path)


@pytest.mark.parametrize("text", ["width=broad", "width=0", "no_such_thing=1"])
def test_argument_that_the_architecture_refuses(tmp_path: Path, text: str) -> None:
    assert text.split("=")[0] in refused("linearize", "--arch", "resnet18", "--arg", text, folder=tmp_path)


def test_arguments_that_disagree(tmp_path: Path) -> None:
    words = ["--arch", "resnet18", "--num-classes", "4", "--arg", "num_classes=5"]
    assert "disagree" in refused("linearize", *words, folder=tmp_path)


def test_no_model_at_all(tmp_path: Path) -> None:
    assert "--arch" in refused("linearize", folder=tmp_path)


def test_two_models_at_once(tmp_path: Path) -> None:
    assert "one only" in refused("linearize", "--arch", "resnet18", "--model", "torch.nn:Identity", folder=tmp_path)


@pytest.mark.parametrize("factory", ["nowhere.to:find", "torch.nn:Nothing", "torch.nn", "math:sqrt"])
def test_factory_that_makes_nothing(tmp_path: Path, factory: str) -> None:
    assert factory.split(":")[0] in refused("linearize", "--model", factory, "--input", "3x8x8", folder=tmp_path)


def test_forward_of_two_inputs(tmp_path: Path) -> None:
    message = refused("linearize", "--model", f"{__name__}:TwoInputs", "--input", "3x8x8", folder=tmp_path)
    assert "images, mask" in message


def test_forward_that_branches_on_values(tmp_path: Path) -> None:
    message = refused("linearize", "--model", f"{__name__}:ByValue", "--input", "3x8x8", folder=tmp_path)
    assert f"{Path(__file__).name}:" in message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["linearise", "--arch", "resnet18"], "'linearize'"),
        (["linearize", "--archh", "resnet18"], "--arch"),
        (["linearize", "--arch"], "requires an argument"),
        (["linearize", "--num-classes", "many"], "--num-classes"),
        (["inspect", "--format", "picture"], "graphml"),
        (["diff", "one.safetensors"], "AFTER"),
    ],
)
def test_mistyped_command_line(tmp_path: Path, words: list[str], says: str) -> None:
    message = refused(*words, folder=tmp_path)
    assert says in message
    assert "--help" in message


# Outputs, all checked before any work is done: the model file is never opened


def damaged(folder: Path) -> Path:
    path = folder / "model.pt"
    path.write_bytes(b"damaged")
    return path


@pytest.mark.parametrize("name", ["out", "out.pt", "out.h5"])
def test_unknown_output_format(tmp_path: Path, name: str) -> None:
    message = refused("linearize", damaged(tmp_path), "-o", tmp_path / name, folder=tmp_path)
    assert ".safetensors, .pt2, .onnx" in message


def test_output_in_no_folder(tmp_path: Path) -> None:
    message = refused("linearize", damaged(tmp_path), "-o", tmp_path / "no" / "out.safetensors", folder=tmp_path)
    assert "does not exist" in message


def test_output_over_the_model(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, path)
    assert "itself" in refused("linearize", path, *SMALL, "-o", path, folder=tmp_path)


@pytest.mark.parametrize("words", [["linearize", "--plan"], ["apply", "--rules", "linearize", "--dry-run"]])
def test_plan_in_an_unknown_format(tmp_path: Path, words: list[str]) -> None:
    message = refused(*words, *SMALL, "-o", tmp_path / "plan.safetensors", folder=tmp_path)
    assert ".toml, .json" in message


@pytest.mark.parametrize("words", [["inspect", "x"], ["diff", "x", "y"]])
def test_picture_in_an_unknown_format(tmp_path: Path, words: list[str]) -> None:
    assert ".svg" in refused(*words, "-o", tmp_path / "graph.png", folder=tmp_path)


# Rules


def test_rules_that_are_not_toml(tmp_path: Path) -> None:
    path = rules(tmp_path, 'match = "relu(x)\nrewrite = "x"')
    message = refused("apply", *SMALL, "--rules", path, folder=tmp_path)
    assert f"{path}:5:" in message
    assert "^" in message


def test_rule_with_a_syntax_error_points_at_it(tmp_path: Path) -> None:
    message = apply_rules(tmp_path, 'match = "relu(x"\nrewrite = "x"')
    assert f"{tmp_path / 'mine.toml'}:5:" in message
    assert 'match = "relu(x"' in message
    assert "^" in message


@pytest.mark.parametrize(("match", "meant"), [("rellu(x)", "relu"), ("activaton(x)", "activation")])
def test_unknown_operation_or_kind_gets_a_suggestion(tmp_path: Path, match: str, meant: str) -> None:
    message = apply_rules(tmp_path, f'match = "{match}"\nrewrite = "x"')
    assert "mine.toml:5:10" in message
    assert f"'{meant}'" in message


def test_unbound_capture(tmp_path: Path) -> None:
    message = apply_rules(tmp_path, 'match = "relu(x)"\nrewrite = "y"')
    assert "mine.toml:6:" in message
    assert "y" in message


def test_rule_that_fires_nowhere_though_it_should(tmp_path: Path) -> None:
    text = 'match = "max_pool2d(x, kernel_size=5)"\nrewrite = "x"\nexpect = ">=1"'
    message = apply_rules(tmp_path, text)
    assert "'one'" in message
    assert ">=1" in message


def test_rewrite_that_changes_a_shape(tmp_path: Path) -> None:
    message = apply_rules(tmp_path, 'match = "adaptive_avg_pool2d(x)"\nrewrite = "x"')
    assert "'one'" in message
    assert "shape" in message


def test_rules_that_feed_each_other(tmp_path: Path) -> None:
    other = '\n[[rule]]\nname = "two"\nmatch = "sigmoid(x)"\nrewrite = "relu(x)"'
    message = apply_rules(tmp_path, f'match = "relu(x)"\nrewrite = "sigmoid(x)"\n{other}')
    assert "without end" in message


def test_unknown_ruleset(tmp_path: Path) -> None:
    message = refused("apply", *SMALL, "--rules", "linearise", folder=tmp_path)
    assert "'linearize'" in message


@pytest.mark.parametrize("words", [[], ["--rules", "linearize", "--plan", "plan.toml"]])
def test_apply_wants_rules_or_a_plan(tmp_path: Path, words: list[str]) -> None:
    assert "--rules or --plan" in refused("apply", *SMALL, *words, folder=tmp_path)


# Plans


def test_plan_of_another_model(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    assert CliRunner().invoke(app, ["linearize", "--plan", *SMALL, "-o", str(plan)]).exit_code == 0
    message = refused("apply", "--arch", "vgg11", "--arg", "width=4", "--plan", plan, folder=tmp_path)
    assert "another graph" in message


def test_plan_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[1, 2]")
    assert "plan.json" in refused("apply", *SMALL, "--plan", tmp_path / "plan.json", folder=tmp_path)

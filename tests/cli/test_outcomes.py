"""What `linearize`, `apply` and `certify` print, write and exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from surgery.graph import load_graph
from surgery.linear import certificate_of
from surgery.models import Checkpoint, build, save_checkpoint
from surgery_cli.main import app

SMALL = ["--arch", "resnet18", "--arg", "width=4", "--num-classes", "4"]


class Offender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(x)).abs()


OFFENDER = ["--model", f"{__name__}:Offender", "--input", "3x8x8"]


def surgery(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result


def rules(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\n{text}\n')
    return path


def test_linearize_certifies_and_writes(tmp_path: Path) -> None:
    out = tmp_path / "linear.safetensors"
    result = surgery("linearize", *SMALL, "-o", out)
    assert result.exit_code == 0
    for text in ("drop-batch-norm", "drop-activation", "Certificate: affine", "Scale", str(out)):
        assert text in result.stdout
    assert "random weights (--seed 0)" in result.stderr
    assert len(load_graph(out).log) == 37


def test_weights_of_a_file_are_used(tmp_path: Path) -> None:
    module = build("resnet18", width=4, num_classes=4).eval()
    arguments = {"width": 4, "num_classes": 4}
    checkpoint = Checkpoint(architecture="resnet18", arguments=arguments, state=module.state_dict())
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    out = tmp_path / "folded.safetensors"
    assert surgery("apply", tmp_path / "model.safetensors", "--rules", "fold-batch-norm", "-o", out).exit_code == 0
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_graph(out)(images), module(images), rtol=1e-3, atol=1e-4)


def test_seed_decides_the_random_weights(tmp_path: Path) -> None:
    weights = []
    for seed in (1, 1, 2):
        surgery("linearize", *SMALL, "--seed", seed, "-o", tmp_path / "out.safetensors")
        weights.append(load_graph(tmp_path / "out.safetensors").tensors()["conv1.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    surgery("certify", *SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("extension", [".pt2", ".onnx"])
def test_linearize_exports(tmp_path: Path, extension: str) -> None:
    result = surgery("linearize", *OFFENDER, "--rules", rules(tmp_path, _ALL), "-o", tmp_path / f"out{extension}")
    assert result.exit_code == 0, result.output
    assert (tmp_path / f"out{extension}").stat().st_size > 100


_ALL = """
promise = "affine"
include = ["linearize"]
[[rule]]
name = "drop-abs"
match = "abs(x)"
rewrite = "x"
"""


def test_exported_program_is_read_again(tmp_path: Path) -> None:
    out = tmp_path / "out.pt2"
    surgery("linearize", *OFFENDER, "--rules", rules(tmp_path, _ALL), "-o", out)
    assert surgery("certify", out).exit_code == 0


def test_result_that_is_not_affine_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = surgery("linearize", *OFFENDER, "-o", out)
    assert result.exit_code == 1
    assert "Certificate: nonlinear" in result.stdout
    assert f"{Path(__file__)}:" in result.stdout
    assert result.stderr.count("error:") == 1
    assert not out.exists()


def test_keep_going_writes_what_is_not_affine(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = surgery("linearize", *OFFENDER, "-o", out, "--keep-going")
    assert result.exit_code == 3
    assert "warning:" in result.stderr
    assert "error:" not in result.stderr
    assert len(load_graph(out).log) == 1


def test_keep_going_passes_over_rules_that_do_not_fire(tmp_path: Path) -> None:
    path = rules(tmp_path, '[[rule]]\nname = "one"\nmatch = "softmax(x)"\nrewrite = "x"\nexpect = ">=1"')
    words = ("apply", *OFFENDER, "--rules", path, "-o", tmp_path / "out.safetensors")
    assert surgery(*words).exit_code == 2
    assert not (tmp_path / "out.safetensors").exists()
    result = surgery(*words, "--keep-going")
    assert result.exit_code == 3
    assert "'one'" in result.stderr
    assert (tmp_path / "out.safetensors").exists()


def test_ruleset_without_a_promise_claims_nothing(tmp_path: Path) -> None:
    result = surgery("apply", *SMALL, "--rules", "relu-to-softplus")
    assert result.exit_code == 0
    assert "promises nothing" in result.stdout


def test_same_function_is_checked() -> None:
    result = surgery("apply", *SMALL, "--rules", "fold-batch-norm")
    assert result.exit_code == 0
    assert "Outputs: the same" in result.stdout


def test_linearize_promises_an_affine_result_whatever_its_rules_promise(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = surgery("linearize", *SMALL, "--rules", "fold-batch-norm", "-o", out)
    assert result.exit_code == 1
    assert "Certificate: nonlinear" in result.stdout
    assert not out.exists()


def test_another_function_breaks_its_promise(tmp_path: Path) -> None:
    text = 'promise = "same function"\n[[rule]]\nname = "one"\nmatch = "relu(x)"\nrewrite = "x"'
    out = tmp_path / "out.safetensors"
    result = surgery("apply", *SMALL, "--rules", rules(tmp_path, text), "-o", out)
    assert result.exit_code == 1
    assert "Outputs: not the same" in result.stdout
    assert not out.exists()


def test_dry_run_writes_only_the_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    result = surgery("linearize", *SMALL, "--plan", "-o", plan)
    assert result.exit_code == 0
    assert "37 edits, none carried out" in result.stdout
    assert "Certificate" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


def test_dry_run_names_what_would_be_left() -> None:
    result = surgery("linearize", *OFFENDER, "--plan")
    assert result.exit_code == 0
    assert "Left by these edits" in result.stdout


def test_dry_run_shows_near_misses_of_rules_that_do_not_fire(tmp_path: Path) -> None:
    path = rules(tmp_path, '[[rule]]\nname = "one"\nmatch = "relu(batch_norm(x))"\nrewrite = "x"\nexpect = ">=1"')
    plan = tmp_path / "plan.toml"
    result = surgery("apply", *OFFENDER, "--rules", path, "--dry-run", "-o", plan)
    assert result.exit_code == 2
    assert not plan.exists()
    assert "where batch_norm is expected" in result.stdout
    assert result.stderr.count("error:") == 1


def test_near_misses_for_the_same_reason_are_one_line(tmp_path: Path) -> None:
    path = rules(tmp_path, '[[rule]]\nname = "one"\nmatch = "relu(sigmoid(x))"\nrewrite = "x"')
    lines = surgery("apply", *SMALL, "--rules", path).stdout.splitlines()
    found = [line.split() for line in lines if "where sigmoid is expected" in line]
    assert sorted(line[1] for line in found) == ["8x", "9x"], "after a batch norm and after a sum"


def test_pickled_module_runs_when_it_is_trusted(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), tmp_path / "model.pt")
    words = ("certify", tmp_path / "model.pt", "--input", "3x2x2")
    assert surgery(*words).exit_code == 2
    assert surgery(*words, "--trust-pickle").exit_code == 0


@pytest.mark.parametrize("name", ["plan.toml", "plan.json"])
def test_saved_plan_is_applied(tmp_path: Path, name: str) -> None:
    plan, out = tmp_path / name, tmp_path / "out.safetensors"
    surgery("linearize", *SMALL, "--plan", "-o", plan)
    assert surgery("apply", *SMALL, "--plan", plan, "-o", out).exit_code == 0
    assert len(load_graph(out).log) == 37


def test_edited_plan_that_is_no_longer_affine_is_found_out(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.toml", tmp_path / "out.safetensors"
    surgery("linearize", *SMALL, "--plan", "-o", plan)
    head, _, *rest = plan.read_text().split("[[edit]]")
    plan.write_text("[[edit]]".join([head, *rest]))
    result = surgery("apply", *SMALL, "--plan", plan, "-o", out)
    assert result.exit_code == 1
    assert "relu" in result.stderr
    assert not out.exists()


def test_a_written_graph_carries_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surgery("linearize", *SMALL, "-o", tmp_path / "out.safetensors")
    linear = load_graph(tmp_path / "out.safetensors")
    monkeypatch.setattr("surgery.linear.certificate.probe", None)
    assert certificate_of(linear).affine


def test_certify_tells_by_its_exit_code(tmp_path: Path) -> None:
    out = tmp_path / "linear.safetensors"
    surgery("linearize", *SMALL, "-o", out)
    assert surgery("certify", out).exit_code == 0
    result = surgery("certify", *SMALL)
    assert result.exit_code == 1
    assert "17 operations not affine" in result.stdout
    assert "and 7 more" in result.stdout
    assert "more (-v" not in surgery("certify", *SMALL, "-v").stdout


def test_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery.linear.certificate.certify", interrupted)
    result = surgery("linearize", *SMALL, "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted"
    assert not list(tmp_path.iterdir())


def test_near_misses_are_shown_where_a_promise_is_broken_or_on_request(tmp_path: Path) -> None:
    text = '[[rule]]\nname = "{0}"\nmatch = "{0}(sigmoid(x))"\nrewrite = "x"\n'
    both = text.format("adaptive_avg_pool2d") + text.format("abs")
    path = rules(tmp_path, f'promise = "affine"\ninclude = ["linearize"]\n{both}')
    assert "Near misses" not in surgery("apply", *SMALL, "--rules", path).stdout
    assert "Near misses" in surgery("apply", *SMALL, "--rules", path, "-v").stdout
    assert "Near misses" in surgery("apply", *OFFENDER, "--rules", path).stdout
    assert "Near misses" in surgery("apply", *SMALL, "--rules", path, "--dry-run").stdout


def test_parameters_are_counted_without_buffers() -> None:
    # Buffers of a batch norm in evaluation: the running mean and variance; its counter of batches is not read.
    result = surgery("inspect", "--model", f"{__name__}:Normed", "--input", "3x8x8")
    assert "14 parameters, 6 in buffers" in result.stdout
    result = CliRunner().invoke(app, ["certify", "--model", f"{__name__}:Normed", "--input", "3x8x8", "--json"])
    facts = json.loads(result.stdout)["model"]
    assert (facts["parameters"], facts["buffers"]) == (14, 6)


class Normed(nn.Module):
    """6 + 8 parameters, 6 numbers in buffers that its forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) * self.scale


class Fragile(nn.Module):
    """A model that fails for every image, after it was made."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, {"a": 1}["b"]]


@pytest.mark.parametrize(
    "words",
    [
        ["linearize", "--input", "3x8x8"],
        ["attack", "--data", "planted", "--images", "9", "--epsilon", "8/255", "--steps", "1", "--step-size", "0.01"],
    ],
)
def test_an_error_in_the_code_of_a_user_is_located_there(words: list[str]) -> None:
    result = surgery(*words, "--model", f"{__name__}:Fragile")
    assert result.exit_code == 2
    assert f"{Path(__file__)}:" in result.stderr
    assert "'b'" in result.stderr
    assert "internal error" not in result.stderr


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nframes")],
)
def test_a_lack_of_memory_is_called_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("surgery.linear.certify", fails)
    result = surgery("certify", *SMALL)
    assert result.exit_code == 1
    assert "error: out of memory: " in result.stderr
    assert "frames" not in result.stderr


def test_bug_of_ours_is_called_one_and_debug_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.linear.certify", None)
    result = surgery("certify", *SMALL)
    assert result.exit_code == 1
    assert "internal error: TypeError: 'NoneType' object is not callable" in result.stderr
    assert "--debug" in result.stderr
    result = CliRunner().invoke(app, ["certify", *SMALL, "--debug"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr

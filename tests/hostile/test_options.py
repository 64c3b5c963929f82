"""Options with absurd values: exit code 2 and one clear message, within seconds and without gigabytes."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from surgery_cli.main import app

SMALL = ["--arch", "convnet", "--arg", "width=4"]
DIGITS = "9" * 5000

CASES = [
    ("a size of 20 digits", [*SMALL, "--input", "3x99999999999999999999x3"], "CHANNELSxHEIGHTxWIDTH"),
    ("a size of 5,000 digits", [*SMALL, "--input", f"3x{DIGITS}x3"], "CHANNELSxHEIGHTxWIDTH"),
    ("numbers of another script", [*SMALL, "--input", "3x٣٢x٣٢"], "CHANNELSxHEIGHTxWIDTH"),
    ("images of 10^18 pixels", [*SMALL, "--input", "3x999999999x999999999"], "999999999"),
    ("images of 10^10 pixels", [*SMALL, "--input", "3x100000x100000"], "not enough memory"),
    ("a flat image of 10^10 pixels", ["--arch", "linear", "--input", "3x100000x100000"], "linear"),
    ("a linear network of 10^10 pixels", ["--arch", "linear", "--arg", "input_size=100000"], "its weights take"),
    ("a trillion classes", [*SMALL, "--num-classes", "1000000000000"], "its weights take"),
    ("10^30 classes", [*SMALL, "--num-classes", "1" + 30 * "0"], "num_classes"),
    ("a seed of 30 digits", [*SMALL, "--seed", "1" + 30 * "0"], "--seed"),
    ("a seed that is no number", [*SMALL, "--seed", "nan"], "--seed"),
    ("a width of 5,000 digits", ["--arch", "convnet", "--arg", f"width={DIGITS}"], "width"),
    ("an infinite width", ["--arch", "convnet", "--arg", "width=1e999"], "width"),
    ("a list in a list in a list", ["--arch", "convnet", "--arg", f"width={'[' * 100_000}"], "width"),
    ("an argument with a name of 1 MB", ["--arch", "convnet", "--arg", f"{'a' * 1_000_000}=3"], "unknown argument"),
    ("an argument with the name of our own parameter", ["--arch", "convnet", "--arg", "name=x"], "'name'"),
    ("a function as a text", ["--arch", "timm:resnet18", "--arg", "act_layer=foo"], "act_layer='foo'"),
    ("a layer as a text", ["--arch", "torchvision:resnet18", "--arg", "norm_layer=foo"], "norm_layer='foo'"),
    ("an architecture of 1 MB", ["--arch", "a" * 1_000_000], "unknown architecture"),
    ("an architecture with escape sequences", ["--arch", "a\x1b[31m"], "a\\x1b[31m"),
    ("a module of 1 MB", ["--model", f"{'a' * 1_000_000}:Net", "--input", "3x8x8"], "was found"),
    ("a file of 1 MB", ["--model", f"{'a' * 1_000_000}.py:Net", "--input", "3x8x8"], "name"),
    ("a folder as a file", ["--model", "folder.py:Net", "--input", "3x8x8"], "folder"),
    ("weights that are a path", ["--arch", "torchvision:resnet18", "--weights", "../../etc/passwd"], "unknown weights"),
    ("weights from the internet", ["--arch", "timm:resnet18", "--weights", "hf-hub:evil"], "unknown weights"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_absurd_values_are_refused(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    result = CliRunner().invoke(app, ["inspect", *words])
    assert result.exit_code == 2, result.output[-2000:]
    assert says in result.stderr
    assert "internal error" not in result.stderr
    assert len(result.stderr) < 10_000
    assert time.perf_counter() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000, "kilobytes"


@pytest.mark.parametrize("size", ["inf", "nan", "1e300", "0", "-1"])
def test_absurd_bounds_of_memory_are_refused(size: str, tmp_path: Path) -> None:
    words = ["extract", *SMALL, "--input", "3x8x8", "-o", str(tmp_path / "W.h5"), "--max-memory", size]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert "--max-memory" in result.stderr

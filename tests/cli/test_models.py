"""The options that select a model: files of the user's code, published weights, huge inputs, arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from surgery.models import build
from surgery_cli.main import app

SOURCE = """
import torch
from torch import nn
print("printed while importing")

class Net(nn.Module):
    def __init__(self, width=4, classes=3):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, width, 3), nn.Linear(width, classes)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))

if __name__ == "__main__":
    torch.save(Net(5), "whole.pt")
"""


def surgery(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert "internal error" not in result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a network in a file."""
    (tmp_path / "cli_net_for_tests.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["cli_net_for_tests.py:Net", "cli_net_for_tests:Net"])
def test_a_class_of_the_current_folder_is_a_model(folder: Path, name: str) -> None:
    """In a process of its own, as the installed command runs: without the current folder on the path of modules."""
    words = ["linearize", "--model", name, "--arg", "width=6", "--input", "3x8x8", "--json"]
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from surgery_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-P", "-c", code, *words], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{"), "what the file prints must not mix with the result"
    assert '"parameters": 189' in done.stdout


def test_a_network_that_a_script_pickled_is_opened_with_its_file(folder: Path) -> None:
    subprocess.run([sys.executable, "cli_net_for_tests.py"], check=True, capture_output=True)
    words = ("certify", "whole.pt", "--input", "3x8x8")
    assert "--trust-pickle" in surgery(*words, "--model", "cli_net_for_tests.py:Net", code=2).stderr
    assert "__main__" in surgery(*words, "--trust-pickle", code=2).stderr
    result = surgery(*words, "--model", "cli_net_for_tests.py:Net", "--trust-pickle", code=1)
    assert "nonlinear" in result.stdout


def test_arguments_of_a_class_are_checked(folder: Path) -> None:
    words = ("certify", "--model", "cli_net_for_tests.py:Net", "--input", "3x8x8")
    message = surgery(*words, "--arg", "wdth=3", code=2).stderr
    assert "cli_net_for_tests.py:Net: unknown argument 'wdth'\n  hint: did you mean 'width'?" in message


@pytest.mark.parametrize("name", ["cli_net_for_tests.py", "cli_net_for_tests", "a b:Net", "net.py:", ":Net"])
def test_a_name_that_is_no_class_says_how_to_write_one(folder: Path, name: str) -> None:
    message = surgery("certify", "--model", name, "--input", "3x8x8", code=2).stderr
    assert "expected FILE.py:NAME or package.module:NAME" in message


def test_published_weights_are_loaded_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    state = build("torchvision:squeezenet1_1").state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    words = ("inspect", "--arch", "torchvision:squeezenet1_1", "--input", "3x32x32", "--depth", "1")
    result = surgery(*words, "--weights", "DEFAULT")
    assert "torchvision:squeezenet1_1 with the published weights DEFAULT" in result.stdout
    assert "normalize" in result.stdout
    assert "random weights" not in result.stderr
    assert "did you mean 'DEFAULT'?" in surgery(*words, "--weights", "DEFALT", code=2).stderr
    assert "--arch torchvision:resnet18" in surgery("inspect", "--weights", "DEFAULT", "--model", "a:b", code=2).stderr


def test_published_weights_and_a_file_exclude_each_other(tmp_path: Path) -> None:
    torch.save(build("linear").state_dict(), tmp_path / "a.pt")
    assert (
        "expected one of them"
        in surgery("inspect", tmp_path / "a.pt", "--arch", "linear", "--weights", "DEFAULT", code=2).stderr
    )


@pytest.mark.parametrize("shape", ["3x100000x100000", "3x30000x30000"])
@pytest.mark.parametrize("command", ["linearize", "certify", "inspect"])
def test_huge_inputs_are_refused_with_the_figures_before_memory_is_used(command: str, shape: str) -> None:
    start = time.perf_counter()
    message = surgery(command, "--arch", "resnet18", "--input", shape, code=2).stderr
    assert f"images of {shape}" in message
    assert "GB are free" in message
    assert "smaller --input" in message
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--arch", "resnet18", "--arg", "name=x"], "unknown argument 'name'"),
        (["--arch", "timm:resnet18", "--arg", "act_layer=foo"], "act_layer='foo': KeyError: 'foo'"),
        (["--arch", "torchvision:resnet18", "--arg", "norm_layer=foo"], "norm_layer='foo': TypeError"),
        (["--arch", "resnet18", "--arg", "width=100000"], "its weights take"),
        (["--arch", "my_nets:smal"], "no module 'my_nets' was found"),
    ],
)
def test_arguments_that_a_constructor_refuses_are_named(words: list[str], says: str) -> None:
    message = surgery("linearize", *words, code=2).stderr
    assert says in message
    assert "?;" not in message


def test_the_entry_of_a_file_is_chosen_by_its_key(tmp_path: Path) -> None:
    nets = [build("linear", input_size=2).state_dict(), build("linear", input_size=3).state_dict()]
    torch.save({"model": nets[0], "model_ema": nets[1]}, tmp_path / "two.pt")
    words = ("inspect", tmp_path / "two.pt", "--arch", "linear")
    result = surgery(*words, "--arg", "input_size=2", "--input", "3x2x2")
    assert "'model_ema'" in result.stdout, "the other entry is named"
    surgery(*words, "--arg", "input_size=3", "--input", "3x3x3", "--key", "model_ema")
    assert "model_ema" in surgery(*words, "--key", "ema", code=2).stderr
    assert "omit --key" in surgery("inspect", "--arch", "linear", "--key", "model", code=2).stderr


def test_errors_of_user_code_offer_the_traceback_of_the_command_line(folder: Path) -> None:
    message = surgery("certify", "--model", "cli_net_for_tests.py:Net", "--arg", "width=x", "--input", "3x8x8", code=2)
    assert "cli_net_for_tests.py:9)" in message.stderr
    assert "hint: --debug prints the traceback" in message.stderr


def test_what_a_model_prints_does_not_mix_with_json(folder: Path) -> None:
    (folder / "cli_loud_for_tests.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(768, 9)); print('made')\n"
        "    def forward(self, x): print('called'); return super().forward(x)\n"
    )
    words = ("attack", "--model", "cli_loud_for_tests.py:Net", "--data", "planted", "--images", 9, "--json")
    result = surgery(*words, "--attack", "fgsm", "--epsilon", "8/255")
    assert json.loads(result.stdout)
    assert "called" in result.stderr

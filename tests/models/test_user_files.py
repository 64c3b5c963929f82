"""Networks of users in files of their own: `file.py:Class`, modules of the current folder, pickles of their classes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from surgery.errors import InputError, ModelFileError
from surgery.models import open_model

SOURCE = """
import torch
from torch import nn
print("imported")

class UserNet(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        from user_layers_for_tests import head
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), head(width))

    def forward(self, x):
        return self.body(x)

def broken(width):
    return nn.Linear(width, [][0])

if __name__ == "__main__":
    torch.manual_seed(1)
    torch.save(UserNet(5), "main.pt")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a script that defines a network and its neighbor, and the current folder elsewhere."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "user_net_for_tests.py").write_text(SOURCE)
    (tmp_path / "nets" / "user_layers_for_tests.py").write_text(
        "from torch import nn\ndef head(n): return nn.Linear(n, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path / "nets"
    sys.path[:] = before
    for name in [name for name in sys.modules if "for_tests" in name]:
        del sys.modules[name]


def test_a_class_in_a_file_makes_the_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_model(None, factory="nets/user_net_for_tests.py:UserNet", arguments={"width": 7})
    assert opened.module(torch.rand(2, 3, 2, 2)).shape == (2, 3)
    assert opened.module.state_dict()["body.1.weight"].shape == (7, 12)
    assert capsys.readouterr().out == "", "what the file prints must not mix with results"


def test_the_name_of_a_file_may_be_that_of_a_module(folder: Path) -> None:
    (folder / "json.py").write_text(SOURCE)
    (folder / "my-net.py").write_text(SOURCE)
    for name in ("json", "my-net"):
        assert open_model(None, factory=f"nets/{name}.py:UserNet").module(torch.rand(2, 3, 2, 2)).shape == (2, 3)
    assert hasattr(sys.modules["json"], "dumps")


def test_weights_of_a_file_are_loaded_into_a_class_in_a_file(folder: Path) -> None:
    module = open_model(None, factory="nets/user_net_for_tests.py:UserNet").module
    torch.save(module.state_dict(), "weights.pt")
    opened = open_model("weights.pt", factory="nets/user_net_for_tests.py:UserNet")
    images = torch.rand(2, 3, 2, 2)
    assert torch.equal(opened.module(images), module(images))


@pytest.mark.parametrize("factory", ["nets/user_net_for_tests.py:UserNet", "user_net_for_tests:UserNet"])
def test_a_network_that_a_script_pickled_is_opened(folder: Path, factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "user_net_for_tests.py"], cwd=folder, check=True, capture_output=True)
    if factory.startswith("user"):
        monkeypatch.chdir(folder)
    path = folder / "main.pt"
    with pytest.raises(ModelFileError, match="trust_pickle"):
        open_model(path, factory=factory)
    opened = open_model(path, factory=factory, trust_pickle=True)
    assert opened.module.state_dict()["body.1.weight"].shape == (5, 12)
    assert not hasattr(sys.modules["__main__"], "UserNet")
    with pytest.raises(InputError, match=r"defines its own computation(.|\n)*omit width"):
        open_model(path, factory=factory, trust_pickle=True, arguments={"width": 5})


def test_a_pickled_class_is_found_in_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = open_model(None, factory="nets/user_net_for_tests.py:UserNet").module
    torch.save(module, "whole.pt")
    for name in [name for name in sys.modules if "for_tests" in name]:
        del sys.modules[name]
    sys.path.remove(str(folder))
    monkeypatch.chdir(folder)
    opened = open_model("../whole.pt", trust_pickle=True)
    images = torch.rand(2, 3, 2, 2)
    assert torch.equal(opened.module(images), module(images))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nets/user_net_for_test.py:UserNet", r"no such file(.|\n)*'user_net_for_tests.py'"),
        ("nets/user_net_for_tests.py:UserNets", r"defines no 'UserNets'(.|\n)*did you mean 'UserNet'"),
        ("nets/user_net_for_tests.py:broken", r"calling it raised IndexError: .*user_net_for_tests.py:\d+\)"),
        ("nets/user_net_for_tests.py", "expected"),
        ("bad.py:UserNet", r"bad.py: importing it raised ZeroDivisionError: .*bad.py:1\)"),
        ("words.py:UserNet", r"words.py: importing it raised SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_located(folder: Path, factory: str, message: str) -> None:
    Path("bad.py").write_text("1 / 0\n")
    Path("words.py").write_text("def (\n")
    with pytest.raises(InputError, match=message):
        open_model(None, factory=factory, arguments={"width": 3} if factory.endswith("broken") else None)

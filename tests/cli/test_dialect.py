"""The library's arguments in the words of the command line, and names of files that a terminal would obey."""

from __future__ import annotations

import io
import json

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from surgery_cli.console import Output, console, escaped
from surgery_cli.dialect import in_options
from surgery_cli.main import app

OPTIONS = {
    "architecture": "--arch",
    "arguments": "--arg",
    "download": "--download",
    "input_shape": "--input",
    "num_classes": "--num-classes",
    "root": "--root",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("give `num_classes=10`", "give --num-classes 10"),
        ("`num_classes` and `architecture` are needed", "--num-classes and --arch are needed"),
        (
            "download=True downloads it; root=... names its folder",
            "--download downloads it; --root ... names its folder",
        ),
        ("`input_shape=(3, 224, 224)`", "--input 3x224x224"),
        ("as in architecture='resnet18', or another", "as in --arch resnet18, or another"),
        ("`width=8`", "--arg width=8"),
        ("width=8 is too small", "width=8 is too small"),
        ("run `git lfs pull`", "run `git lfs pull`"),
        ("the folder runs/num_classes=3/a", "the folder runs/num_classes=3/a"),
        ("precision = 'float32'", "precision = 'float32'"),
    ],
)
def test_arguments_become_options_in_hints(text: str, expected: str) -> None:
    assert in_options(text, OPTIONS, is_hint=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_classes=3/model.pt: no such file", "num_classes=3/model.pt: no such file"),
        ("expected `num_classes=3`", "expected --num-classes 3"),
    ],
)
def test_messages_quote_what_they_mean_because_they_name_files(text: str, expected: str) -> None:
    assert in_options(text, OPTIONS, is_hint=False) == expected


def test_an_argument_without_an_option_of_the_command_stays() -> None:
    assert in_options("`num_classes=10`", {"root": "--root"}, is_hint=True) == "`num_classes=10`"


@pytest.mark.parametrize(
    ("words", "says", "leaves_out"),
    [
        (["certify", "{folder}/state.pt"], "--arch ", "architecture="),
        (["certify", "{folder}/whole.pt", "--input", "3x2x2"], "--trust-pickle", "trust_pickle"),
        (["attack", "--arch", "linear", "--data", "cifar10", "--root", "{folder}", "--epsilon", "8/255",
          "--steps", "2", "--step-size", "0.01"], "--download", "download=True"),
    ],
)  # fmt: skip
def test_commands_speak_of_options(words: list[str], says: str, leaves_out: str, tmp_path_factory) -> None:
    import torch
    from torch import nn

    from surgery.models import build

    folder = tmp_path_factory.mktemp("models")
    torch.save(build("linear", input_size=2).state_dict(), folder / "state.pt")
    torch.save(nn.Sequential(nn.Flatten()), folder / "whole.pt")
    result = CliRunner().invoke(app, [word.format(folder=folder) for word in words])
    assert result.exit_code == 2
    assert says in result.stderr
    assert leaves_out not in result.stderr


HOSTILE = "a\x1b[31mb\x07\x9b\u202ec\r\udcff"
SHOWN = "a\\x1b[31mb\\x07\\x9b\\u202ec\\r\\udcff"


def test_what_a_terminal_would_obey_is_escaped_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert escaped(HOSTILE) == SHOWN
    assert escaped("naïve 日本 \t\n") == "naïve 日本 \t\n"
    out = Output(as_json=False, debug=False)
    out.note(HOSTILE)
    out.warn(HOSTILE)
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE), HOSTILE)
    out.show(HOSTILE, table)
    printed = capsys.readouterr()
    assert printed.err.count(SHOWN) == 2
    assert printed.out.count("\\x1b[31") == 4
    assert not set(HOSTILE) - set("a[31mbc") & set(printed.out + printed.err)


def test_colors_of_our_own_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    console(stream).print(Text("red\x1b", style="red"))
    assert stream.getvalue() == "\x1b[31mred\\x1b\x1b[0m\n"


def test_json_escapes_as_json_does(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True, debug=False).data({"name": HOSTILE})
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": HOSTILE}
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_file_name_that_is_no_text_is_an_ordinary_error() -> None:
    result = CliRunner().invoke(app, ["certify", "b\udcff\x1b.pt"])
    assert result.exit_code == 2
    assert "b\\udcff\\x1b.pt: no such file" in result.stderr

"""Help, version and completion: quick, complete and true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import surgery
from surgery.errors import InputError
from surgery.models import architectures
from surgery.recipe import shipped
from surgery.rewrite import shipped_rulesets
from surgery_cli import completion
from surgery_cli.main import COMMANDS, app
from surgery_cli.main import GROUPS as HEADINGS

# pydantic is not among them: Typer coerces the values of options with it.
HEAVY = ("torch", "torchvision", "numpy", "scipy", "networkx", "h5py", "matplotlib", "rich")


GROUPS = {
    "recipes": ("ls", "show", "cp", "check", "schema"),
    "results": ("ls", "show", "compare", "check", "export"),
}
"""Commands that have commands of their own."""


def _no_run(*_: object, **__: object) -> None:
    raise InputError("no such file")


def help_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("words", ["--help", "linearize --help", "--version", "linearize --no-such-option"])
def test_nothing_heavy_is_imported_to_answer(words: str) -> None:
    code = f"""
import sys
from surgery_cli.main import main
sys.argv = ["surgery", *{words.split()!r}]
try:
    main()
finally:
    print("HEAVY", *sorted(set({HEAVY!r}) & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "HEAVY"


def test_help_names_every_command() -> None:
    text = help_of()
    assert all(text.count(f"\n  {name} ") == 1 for name in (*COMMANDS, *GROUPS))
    assert "..." not in text.split("Rewrite a model:")[1].split("Exit codes")[0], "no description is cut"


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    listed = [name for names in HEADINGS.values() for name in names]
    assert sorted(listed) == sorted([*COMMANDS, *GROUPS])
    text = help_of()
    places = [text.index(f"\n{heading}:") for heading in HEADINGS]
    assert places == sorted(places)


def test_options_are_listed_from_what_is_read_to_how_it_is_printed() -> None:
    text = help_of("linearize")
    places = [text.index(f"\n{heading}:") for heading in ("Arguments", "Model", "Result", "Output")]
    assert places == sorted(places)
    for option in ("--arch", "--model", "--arg", "--key", "--weights", "--trust-pickle", "--seed"):
        assert all(text.count(f"  {option} ") == 1 for text in map(help_of, ("linearize", "extract", "attack")))


def test_help_is_a_result_also_where_json_is_asked_for() -> None:
    assert CliRunner().invoke(app, ["linearize", "--json", "--help"]).stdout == help_of("linearize")


def test_no_words_are_a_question_for_help() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert "Rewrite a model:" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options(name: str) -> None:
    text = help_of(name)
    assert "--json" in text
    assert "--debug" in text


@pytest.mark.parametrize(
    "name", ["", *COMMANDS, *GROUPS, *(f"{name} {sub}" for name in GROUPS for sub in GROUPS[name])]
)
def test_examples_are_real(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has to parse: what is wrong with it, if anything, is that its files are not here, nor is time for a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("surgery.run.run_recipe", _no_run)
    examples = re.findall(r"^ +surgery (\w.*)$", help_of(*name.split()), re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example.split(" | ")[0])
        assert words[0] in COMMANDS or words[1] in GROUPS[words[0]]
        if "--arch" in words or "doctor" in words or words == ["rules"]:
            continue
        result = CliRunner().invoke(app, words)
        assert "no such file" in result.output or result.exit_code == 0, result.output


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout == f"surgery {surgery.__version__}\n"


def test_completion_knows_what_it_cannot_ask() -> None:
    assert list(completion.OWN_ARCHITECTURES) == architectures()
    assert completion.shipped() == list(shipped_rulesets())
    assert completion.shipped_recipes() == list(shipped())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("surgery lin", {"linearize"}),
        ("surgery linearize --rules linearize", {"linearize", "linearize-keep-bn"}),
        ("surgery linearize --arch vgg16", {"vgg16", "vgg16_bn"}),
        ("surgery linearize --arch torch", {"torchvision:"}),
        ("surgery inspect --format t", {"tree", "table"}),
        ("surgery run cifar10_", {"cifar10_atc", "cifar10_fast", "cifar10_small"}),
        ("surgery recipes s", {"show", "schema"}),
    ],
)
def test_shell_completes(words: str, offered: set[str]) -> None:
    environment = {"_SURGERY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "surgery_cli"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == offered, done.stderr


def test_rulesets_of_the_user_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").touch()
    (tmp_path / "mine.txt").touch()
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completion.rulesets("m") == ["max-to-average-pool", "mine.toml", "more/"]
    assert completion.rulesets(f"{tmp_path}/mi") == [f"{tmp_path}/mine.toml"]

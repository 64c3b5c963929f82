"""The code in README and docs runs unchanged, and prints the output that tutorials show."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import surgery
from surgery_cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIALS = [page for page in PAGES if page.name.startswith("tutorial-")]
REFERENCE = [page for page in PAGES if page not in TUTORIALS]


def blocks(language, pages=REFERENCE):
    found = []
    for page in pages:
        for number, match in enumerate(re.finditer(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append(pytest.param(match[1], id=f"{page.stem}-{number}"))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize("text", blocks("toml", [page for page in REFERENCE if page.name != "recipes.md"]))
def test_rules_load(text, tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    assert surgery.load_rules(path).rules


def test_nothing_is_left_to_be_filled_in():
    for page in PAGES:
        assert not re.search(r"^[A-Z]{4,}$", page.read_text(), re.MULTILINE), page.name


def test_links_lead_somewhere():
    for page in [*PAGES, *(ROOT / "results").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_its_first_line_to_its_last(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "tutorial"}
    for language, text in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL):
        file = re.match(r"# (\S+\.(?:py|toml))\n", text)
        if file:
            Path(file[1]).write_text(text)
        elif language == "python":
            exec(compile(text, page.name, "exec"), names)
        else:
            assert language == "console", f"{page.name}: a block of {language} that nothing runs"
            session(text)


def session(text):
    """Run the lines after `$`; lines after them are printed in that order. `...` matches anything."""
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    for (command, shown), following in zip(steps, [*steps[1:], ("", "")], strict=True):
        if command == "echo $?":
            continue
        program, *words = shlex.split(command)
        assert program == "surgery"
        result = CliRunner().invoke(app, words, env={"COLUMNS": "100", "NO_COLOR": "1"})
        expected = int(following[1]) if following[0] == "echo $?" else 0
        assert result.exit_code == expected, result.output
        printed = iter(squeezed(result.output))
        for line in squeezed(shown):
            fits = re.compile(".*".join(map(re.escape, line.split("..."))))
            assert any(map(fits.fullmatch, printed)), f"$ {command}\n{result.output}\ndoes not print: {line}"


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]

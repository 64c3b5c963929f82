"""The code in README and docs runs as it stands there."""

import re
from pathlib import Path

import pytest

import surgery

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, pages=PAGES):
    found = []
    for page in pages:
        for number, match in enumerate(re.finditer(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append(pytest.param(match[1], id=f"{page.stem}-{number}"))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize("text", blocks("toml", [page for page in PAGES if page.name != "recipes.md"]))
def test_rules_load(text, tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    assert surgery.load_rules(path).rules


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"

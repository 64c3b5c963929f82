"""The summary of a run: which findings it keeps, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from surgery.recipe import load_recipe
from surgery.run import run_recipe
from surgery.stages import Context, Finished, RunFolder, Stage, StageTable, summarize
from surgery.stages.attack import Accuracy, AttackStage, Difference
from surgery.stages.findings import Finding, Grid, Section
from surgery.store import Group
from surgery_cli.show.run import summary_view


class PairsStage(StageTable):
    """Tells the difference of each two stages, which is the same for all pairs."""

    unique: ClassVar[bool] = True

    def run(self, context: Context) -> Group:
        raise NotImplementedError

    def compare(self, mine: Finished, other: Finished) -> Iterable[Finding]:
        yield Difference(first="a", second="b", attack="pgd", difference=0.1, p_value=0.5)
        yield accuracy("a", stage=f"{mine.stage.name}-{other.stage.name}")


def accuracy(model: str, *, stage: str = "rob", attack: str = "natural") -> Accuracy:
    return Accuracy(stage=stage, model=model, attack=attack, accuracy=0.5, interval=(0.4, 0.6), images=20)


def finished(name: str, table: StageTable) -> Finished:
    stage = Stage(name=name, base=name, kind="pairs", parameters=table, inputs={}, choice={})
    return Finished(stage=stage, model=name, folder=RunFolder(path=Path("none")), data="data", known=None)


def test_of_findings_about_the_same_thing_the_first_is_kept_and_others_all() -> None:
    found = summarize([finished(name, PairsStage()) for name in "xyz"])
    assert len(found.of(Difference.section)) == 1
    assert [row.stage for row in found.of(Accuracy.section)] == ["x-y", "x-z", "y-z"]
    assert [section.key for section in found.sections()] == ["accuracies", "differences"]


def test_networks_of_different_seeds_are_not_compared() -> None:
    table = AttackStage.model_validate(
        {"kind": "attack", "model": "a", "attacks": {"f": {"kind": "fgsm", "epsilon": 0.1}}}
    )
    stages = [finished(name, table) for name in "xy"]
    seeds: list[dict[str, Any]] = [{"seed": 0}, {"seed": 1}]
    stages = [
        Finished(
            stage=Stage(name=item.model, base="rob", kind="attack", parameters=table, inputs={}, choice=seed),
            model=item.model,
            folder=item.folder,
            data=item.data,
            known=None,
        )
        for item, seed in zip(stages, seeds, strict=True)
    ]
    assert list(table.compare(*stages)) == []


def shown(found: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    target = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr("surgery_cli.show.run.console", lambda stream: target)
    with target.capture() as captured:
        target.print(*summary_view(found, verbose=False), sep="\n")
    return captured.get()


@dataclass(frozen=True, kw_only=True)
class Nothing(Finding):
    """A finding that has no row."""


Nothing.section = Section(
    key="nothing", title="Nothing", line_title="Nothing", place=99, lines=lambda _: [], grid=lambda _: Grid(rows=())
)


def test_details_are_put_below_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.stages.summary import Summary

    found = Summary(findings=(accuracy("net.best"), accuracy("net.best", attack="pgd20")))
    wide = [line.split() for line in shown(found, 80, monkeypatch).splitlines() if "50.0%" in line or "40.0" in line]
    assert wide == [["net.best", *("50.0%", "40.0", "to", "60.0") * 2]]
    narrow = [line.split() for line in shown(found, 40, monkeypatch).splitlines() if "50.0%" in line or "40.0" in line]
    assert narrow == [["net.best", "50.0%", "50.0%"], ["40.0", "to", "60.0"] * 2]


def test_a_section_without_rows_is_shown_as_its_title(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.stages.summary import Summary

    assert "Nothing" in shown(Summary(findings=(Nothing(),)), 80, monkeypatch)


REPORTS = """\
[data]
name = "planted"
train_size = 90
test_size = 18
validation = 0.1

[model]
architecture = "convnet"
arguments = { width = 4 }

[stage.net]
kind = "train"
objective = { kind = "standard" }
epochs = 1
batch_size = 27
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.first]
kind = "report"

[stage.second]
kind = "report"
"""


def test_a_figure_of_two_reports_is_deleted_when_neither_draws_it(tmp_path: Path) -> None:
    path, figure = tmp_path / "mine.toml", tmp_path / "run" / "figures" / "net-history.png"
    path.write_text(REPORTS)

    def run(*overrides: tuple[str, str]) -> tuple[str, ...]:
        return run_recipe(load_recipe(path, overrides), tmp_path / "run", device="cpu").ran

    assert run() == ("net", "first", "second")
    assert run(("stage.first.figures", "[]")) == ("first",)
    assert figure.is_file()
    assert run(("stage.first.figures", "[]"), ("stage.second.figures", "[]")) == ("second",)
    assert not figure.exists()
    assert run() == ("first", "second")
    assert figure.is_file()

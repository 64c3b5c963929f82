"""A new stage kind is one file and one line of the registry: tried on a copy of the package, end to end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

KIND = '''\
"""The stage kind `confidence`: how sure a network is of its predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field

from surgery.stages.findings import Cell, Finding, Grid, Section
from surgery.stages.sources import EvaluationStage
from surgery.stages.stage import Context, Figures, Finished, Sizes, as_array
from surgery.store import Group, Variable, class_coordinates


@dataclass(frozen=True, kw_only=True)
class Confidence(Finding):
    model: str
    confidence: float


Confidence.section = Section(
    key="confidences",
    title="Confidence",
    line_title="Confidence",
    place=45,
    lines=lambda found: [f"{row.model}: {row.confidence:.3f}" for row in found],
    grid=lambda found: Grid(
        rows=tuple((Cell(text=row.model), Cell(text=f"{row.confidence:.3f}")) for row in found),
        head=("network", "mean probability"),
    ),
)


class ConfidenceStage(EvaluationStage):
    """Mean probability of the predicted class, for the images of each class."""

    heading: ClassVar[str] = "Stage `confidence`"
    sections = (Confidence.section,)

    kind: Literal["confidence"] = Field(description="How sure a network is.")
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits.")

    def passes(self, sizes: Sizes) -> int:
        return sizes.of(self.split, self.images)

    def run(self, context: Context) -> Group:
        network, split = context.network(self.file, self.network), self.images_of(context.data)
        with torch.no_grad():
            logits = torch.cat([network(images) for images, _ in split.batches(self.batch_size)])
        sure = (logits / self.temperature).softmax(1).amax(1).double()
        members = torch.nn.functional.one_hot(split.labels.long(), context.data.num_classes).double()
        means = as_array((members.T @ sure) / members.sum(0))
        variable = Variable(name="confidence", data=means, dimensions=("class",), long_name="mean probability")
        return Group(
            name=context.name,
            kind="confidence",
            coordinates=(class_coordinates(context.data.class_names)[0],),
            variables=(variable,),
            provenance=context.provenance(),
        )

    def draw(self, finished: Finished) -> Figures:
        def draw():
            from matplotlib.figure import Figure

            figure = Figure()
            figure.add_subplot().bar(range(len(finished.group["class"])), finished.group["confidence"])
            return figure

        return {"confidence": draw}

    def findings(self, finished: Finished) -> Iterable[Finding]:
        yield Confidence(model=finished.model, confidence=float(finished.group["confidence"].mean()))
'''

RECIPE = """\
[data]
name = "planted"
train_size = 180
test_size = 54
validation = 0.1

[model]
architecture = "convnet"
arguments = { width = 4 }

[stage.std]
kind = "train"
objective = { kind = "standard" }
epochs = 1
batch_size = 60
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.sure]
kind = "confidence"
model = "std"
temperature = 2

[stage.report]
kind = "report"
stages = ["std", "sure"]
"""

TRIAL = """\
import json, sys
from pathlib import Path
from typer.testing import CliRunner
import surgery
from surgery_cli.main import app

assert Path(surgery.__file__).is_relative_to(Path.cwd()), surgery.__file__

def call(*words, code=0):
    result = CliRunner().invoke(app, words, env={"NO_COLOR": "1", "COLUMNS": "120"})
    assert result.exit_code == code, result.output
    return result.output

assert "no mistakes, 3 stages" in call("recipes", "check", "mine.toml")
Path("wrong.toml").write_text(Path("mine.toml").read_text().replace("temperature = 2", "temperatur = 2"))
assert "unknown key 'temperatur'; did you mean 'temperature'" in call("recipes", "check", "wrong.toml", code=2)
plan = json.loads(call("plan", "mine.toml", "--json"))
assert [(stage["name"], stage["passes"]) for stage in plan["stages"]][1] == ("sure", 54)
text = call("run", "mine.toml")
assert "Confidence" in text and "mean probability" in text, text
assert (Path("results/mine/figures") / "sure-confidence.png").is_file()
found = surgery.store.read_group("results/mine", "sure")
assert found.kind == "confidence" and found["confidence"].shape == (9,)
assert any(line.startswith("  std.best: 0.") for line in surgery.store.read_group("results/mine", "report")["verdict"])
again = json.loads(call("run", "mine.toml", "--json", "--quiet"))
assert again["stages"]["cached"] == ["std", "sure", "report"]
assert again["verdict"]["confidences"][0]["model"] == "std.best"
assert "confidence" in call("results", "ls", "results/mine")
from surgery.recipe.schema_docs import reference, schema_text
assert "## Stage `confidence`" in reference() and "Divides the logits." in reference()
assert "ConfidenceStage" in schema_text()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the package and the new kind in it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "surgery", tmp_path / "surgery", ignore=ignored)
    shutil.copytree(ROOT / "recipes", tmp_path / "surgery" / "recipe" / "shipped", ignore=ignored)
    (tmp_path / "surgery" / "stages" / "confidence.py").write_text(KIND)
    registry = tmp_path / "surgery" / "stages" / "registry.py"
    text = registry.read_text()
    line = '    "report": ReportStage,\n'
    assert line in text
    text = text.replace(line, f'{line}    "confidence": ConfidenceStage,\n')
    registry.write_text(text.replace("from surgery.stages.confusion", f"{IMPORT}\nfrom surgery.stages.confusion", 1))
    (tmp_path / "mine.toml").write_text(RECIPE)
    return tmp_path


IMPORT = "from surgery.stages.confidence import ConfidenceStage"


def test_a_new_kind_works_in_check_plan_run_store_figures_summary_and_docs(package: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], cwd=package, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

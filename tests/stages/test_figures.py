"""Figures of finished stages: titles in words, one order of classes, one scale for what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from surgery.hierarchy import Hierarchy
from surgery.models import Checkpoint, build, save_checkpoint
from surgery.recipe import load_recipe
from surgery.report import figures
from surgery.stages.attack import Accuracy
from surgery.stages.cluster import hierarchy_group
from surgery.stages.confusion import contrast_among_fooled
from surgery.stages.findings import Contrast
from surgery.stages.folder import RunFolder
from surgery.stages.report import accuracies_figure
from surgery.stages.stage import Finished, in_words, model_of
from surgery.store import Coordinate, Group, Variable, class_coordinates

NAMES = ("cat", "car", "dog", "bus")
PAIR = ("class", "class_other")
RECIPE = """\
[recipe]
description = "for titles"

[data]
name = "planted"

[model]
architecture = "linear"

[stage.std]
kind = "train"
objective = { kind = "standard" }
epochs = 1
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.at]
kind = "train"
objective = { kind = "pgd", attack = { epsilon = "8/255", steps = 2, step_size = "4/255" } }
epochs = 1
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.again]
kind = "train"
objective = { kind = "pgd", attack = { epsilon = "8/255", steps = 3, step_size = "4/255" } }
epochs = 1
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.std_linear]
kind = "extract"
model = "std"

[stage.at_linear]
kind = "extract"
model = "at.last"

[stage.at_groups]
kind = "cluster"
map = "at_linear"
superclasses = 2

[stage.atc]
kind = "train"
epochs = 1
schedule = { kind = "constant", learning_rate = 0.05 }

[stage.atc.objective]
kind = "trades"
beta = 6
attack = { epsilon = "8/255", steps = 2, step_size = "4/255" }
cluster = { hierarchy = "at_groups", weight = 0.1 }

[stage.moved]
kind = "confusion"
model = "at"
attack = { epsilon = "8/255", steps = 2, step_size = "4/255" }

[stage.report]
kind = "report"

[matrix]
"stage.std.seed" = [1, 2]
"stage.moved.model" = ["std", "at", "atc"]
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Given(Finished):
    """A finished stage whose group is not in a store."""

    groups: Mapping[str, Group]

    @cached_property
    def group(self) -> Group:
        return self.groups[self.stage.name]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("recipe") / "titles.toml"
    path.write_text(RECIPE)
    return {stage.name: stage for stage in load_recipe(path).stages}


def finished(
    stages: Mapping[str, Any], groups: Mapping[str, Group], known: Hierarchy | None = None
) -> dict[str, Given]:
    others: list[Finished] = []
    for name in groups:
        stage = stages[name]
        others.append(
            Given(
                stage=stage,
                model=model_of(stage, stages),
                folder=RunFolder(path=Path("none")),
                data="pets",
                known=known,
                words=in_words(stage, stages),
                others=others,
                groups=groups,
            )
        )
    return {item.stage.name: item for item in others if isinstance(item, Given)}


def linear(name: str, size: float) -> Group:
    C = np.array([[1, 0.1, 0.9, 0.2], [0.1, 1, 0, 0.8], [0.9, 0, 1, 0.3], [0.2, 0.8, 0.3, 1]])
    axes = ("channel", "row", "column")
    weight = np.full((4, 1, 2, 2), size, dtype=np.float32)
    return Group(
        name=name,
        kind="linear",
        coordinates=class_coordinates(NAMES),
        variables=(
            Variable(name="weight", data=weight, dimensions=("class", *axes), long_name="W"),
            Variable(name="correlation", data=C, dimensions=PAIR, long_name="C"),
            Variable(name="correlation_centered", data=C, dimensions=PAIR, long_name="C"),
            Variable(name="singular_value", data=np.array([2.0, 1.0]), dimensions=("component",), long_name="s"),
        ),
        attributes={"effective_rank": 1.5},
    )


def confusion(name: str, counts: np.ndarray, *, targeted: bool = False) -> Group:
    images = np.maximum(counts.sum(axis=1), 1)
    superclass = np.array([0, 1, 0, 1], dtype=np.int32)
    return Group(
        name=name,
        kind="confusion",
        coordinates=(
            *class_coordinates(NAMES),
            Coordinate(name="superclass", values=("animals", "vehicles"), long_name="superclass"),
        ),
        variables=(
            Variable(name="confusion", data=counts / images[:, None], dimensions=PAIR, long_name="M"),
            Variable(name="count", data=counts, dimensions=PAIR, long_name="counts"),
            Variable(name="superclass_of_class", data=superclass, dimensions=("class",), long_name="superclass"),
        ),
        attributes={"targeted": int(targeted)},
    )


def rows(figure: Any) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_titles_are_in_words(stages: Mapping[str, Any]) -> None:
    said = {name: in_words(stage, stages) for name, stage in stages.items()}
    assert said["std_linear@seed-1"] == "standard training, seed 1, best epoch"
    assert said["at_linear"] == said["at_groups"] == "adversarially trained (at), last epoch"
    assert said["again"] == "adversarially trained (again)"
    moved = next(name for name in stages if name.startswith("moved@") and name.endswith("model-atc"))
    assert said[moved].startswith("trained with TRADES and cluster penalty")
    assert said[moved].endswith(", best epoch")
    [item] = finished(stages, {"at_linear": linear("at_linear", 1.0)}).values()
    assert item.title == "adversarially trained (at), last epoch, pets"
    assert replace(item, words="").title == "at.last, pets"


def test_a_network_without_a_train_stage_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    text = RECIPE.split("[stage.std]")[0] + '[stage.W]\nkind = "extract"\nfile = "net.safetensors"\n'
    path.write_text(text)
    save_checkpoint(tmp_path / "net.safetensors", Checkpoint(architecture="linear", state=build("linear").state_dict()))
    stages = {stage.name: stage for stage in load_recipe(path).stages}
    assert in_words(stages["W"], stages) == ""


def test_classes_are_ordered_by_the_known_superclasses_or_by_those_of_the_network(stages: Mapping[str, Any]) -> None:
    found = Hierarchy.of_labels([0, 1, 0, 1], class_names=NAMES, method="average")
    groups = {
        "at_linear": linear("at_linear", 1.0),
        "std_linear@seed-1": linear("std_linear@seed-1", 1.0),
        "at_groups": hierarchy_group(
            found, scores=None, reference=None, centered=False, provenance={}, name="at_groups"
        ),
    }
    items = finished(stages, groups)
    figure = items["at_linear"].stage.parameters.draw(items["at_linear"])["correlation"]()
    assert rows(figure) == ["cat", "dog", "car", "bus"]
    other = items["std_linear@seed-1"]
    assert rows(other.stage.parameters.draw(other)["correlation"]()) == list(NAMES), "another network's are not taken"
    known = Hierarchy.of_groups({"b": ["bus", "cat"], "a": ["dog", "car"]}, method="known")
    for item in finished(stages, groups, known).values():
        if item.stage.kind == "extract":
            figure = item.stage.parameters.draw(item)["correlation"]()
            assert rows(figure) == ["cat", "bus", "car", "dog"], "one order for all networks"


def test_matrices_and_weights_that_are_compared_have_one_scale(stages: Mapping[str, Any]) -> None:
    few, many = np.full((4, 4), 5), np.array([[20, 0, 0, 0], [0, 0, 20, 0], [5, 5, 5, 5], [5, 5, 5, 5]])
    names = [name for name in stages if name.startswith("moved@")][:2]
    groups = {name: confusion(name, counts) for name, counts in zip(names, (few, many), strict=True)}
    items = finished(stages, groups)
    ends = {item.stage.parameters.draw(item)["matrix"]().axes[0].images[0].get_clim() for item in items.values()}
    assert ends == {(0.0, 100.0)}
    linears = {"at_linear": 1.0, "std_linear@seed-1": 2.0}
    items = finished(stages, {name: linear(name, size) for name, size in linears.items()})
    ends = {item.stage.parameters.draw(item)["weights"]().axes[0].images[0].get_clim() for item in items.values()}
    assert ends == {(-2.0, 2.0)}
    linears["at_linear"] = 1000.0  # such a scale would make the other figure all gray
    items = finished(stages, {name: linear(name, size) for name, size in linears.items()})
    ends = {item.stage.parameters.draw(item)["weights"]().axes[0].images[0].get_clim() for item in items.values()}
    assert ends == {(-2.0, 2.0), (-1000.0, 1000.0)}


def test_the_contrast_of_m_does_not_grow_with_the_success_of_the_attack(stages: Mapping[str, Any]) -> None:
    """Cats become dogs and cars become buses in two of three cases, whatever the number of successes."""
    superclass = np.array([0, 1, 0, 1])
    turned = np.array([[0, 1, 4, 1], [1, 0, 1, 4], [4, 1, 0, 1], [1, 4, 1, 0]])
    expected = 4 / 6 - 1 / 6
    for successes, right in ((1, 94), (10, 40), (16, 4)):
        counts = successes * turned + right * np.eye(4, dtype=int)
        assert contrast_among_fooled(counts, superclass) == pytest.approx(expected)
    absent = np.array(turned)
    absent[0] = 0
    assert contrast_among_fooled(absent, superclass) == pytest.approx(expected)
    assert contrast_among_fooled(10 * np.eye(4, dtype=int), superclass) is None
    name = next(name for name in stages if name.startswith("moved@"))
    [item] = finished(stages, {name: confusion(name, turned)}).values()
    [contrast] = item.stage.parameters.findings(item)
    assert isinstance(contrast, Contrast)
    assert contrast.matrix == "M among fooled"
    assert contrast.section.grid([contrast]).note.endswith("; M among the fooled images only")


def test_accuracies_name_networks_in_words() -> None:
    found = [
        Accuracy(stage=stage, model=model, attack="natural", accuracy=0.5, interval=(0.4, 0.6), images=100)
        for stage, model in (("a", "at.best"), ("b", "std.best"))
    ]
    words = {"at.best": "adversarially trained with cluster penalty, seed 1, best epoch"}
    figure = accuracies_figure(found, "pets", words)["accuracies"]()
    names = rows(figure)
    assert [name.replace("\n", " ") for name in names] == [words["at.best"], "std.best"]
    assert names[0].count("\n") == 2
    figure.draw_without_rendering()
    boxes = [tick.label1.get_window_extent() for tick in figure.axes[0].yaxis.get_major_ticks()]
    assert not boxes[0].overlaps(boxes[1])


def test_files_of_figures_have_no_at_sign(tmp_path: Path) -> None:
    from surgery.stages.report import file_name

    assert file_name("confusion@model-at", "matrix") == "confusion.model-at-matrix"
    assert matplotlib.image.imread(figures.save(figures.spectrum([1.0]), tmp_path / "a.b-c.png")).size

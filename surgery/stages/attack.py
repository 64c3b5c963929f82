"""The stage kind `attack`: natural and robust accuracies, image by image (paper, section 7)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from surgery.attack import Evaluation, EvaluationWarning, Outcome, evaluate, mcnemar
from surgery.stages.attack_tables import AttackName, AttackTable
from surgery.stages.findings import Cell, Finding, Grid, Remark, Section, chance_text, remarks
from surgery.stages.sources import SearchStage
from surgery.stages.stage import Context, Finished, Sizes, as_array, has
from surgery.store import Coordinate, Group, Variable, class_coordinates

WORST = "worst_case"
"""The name under which a store holds the worst case over all attacks."""


class AttackStage(SearchStage):
    """Accuracies of a network on clean images and under attacks, image by image."""

    heading: ClassVar[str] = "Stage `attack`"

    kind: Literal["attack"] = Field(description="Natural and robust accuracies.")
    attacks: Annotated[dict[AttackName, AttackTable], Field(min_length=1)] = Field(description="Attacks by name.")

    def passes(self, sizes: Sizes) -> int:
        steps = sum(attack.steps_in_all() for attack in self.attacks.values())
        return sizes.of(self.split, self.images) * (1 + steps)

    def run(self, context: Context) -> Group:
        """Attack, starting after the last chunk of an interrupted run."""
        with evaluation_warnings(context):
            result = evaluate(
                context.network(self.file, self.network),
                self.images_of(context.data),
                {name: table.value() for name, table in self.attacks.items()},
                batch_size=self.batch_size,
                seed=context.seed,
                device=context.device,
                engine=self.engine.value(),
                chunks=context.folder.chunks(context.name, context.key),
                progress=context.steps("attacking"),
            )
        for notice in result.notices:
            context.tell(text=f"warning: {notice}", lasting=True)
        return robustness_group(
            result,
            class_names=context.data.class_names,
            data=context.data.title,
            provenance=context.provenance(),
            name=context.name,
        )

    def findings(self, finished: Finished) -> Iterable[Finding]:
        """Accuracies (the worst case only if there are several attacks), and the checks that failed."""
        group = finished.group
        names = [str(name) for name in group["attack"]]
        for index, name in enumerate(names):
            if name != WORST or len(names) > 3:
                low, high = group["interval"][index]
                yield Accuracy(
                    stage=finished.stage.name,
                    model=finished.model,
                    attack=name.replace("_", " "),
                    accuracy=float(group["accuracy"][index]),
                    interval=(float(low), float(high)),
                    images=len(group["label"]),
                )
        if has(group, "check_passed"):
            for name, passed, detail in zip(group["check"], group["check_passed"], group["check_detail"], strict=True):
                if not passed:
                    yield FailedCheck(text=f"{finished.stage.name}: {name}: {detail}")

    def compare(self, mine: Finished, other: Finished) -> Iterable[Finding]:
        """How two networks differ under each attack that both stages made, on the same images.

        An attack counts as the same if its name and all its settings are. Repetitions for different seeds are not
        compared with each other: each seed is an experiment of its own.
        """
        # A matrix makes many pairs that are not compared: they are recognized before their tables are dumped.
        if mine.model == other.model or mine.stage.choice.get("seed") != other.stage.choice.get("seed"):
            return
        one, two = (stage.parameters.model_dump() for stage in (mine.stage, other.stage))
        if one["split"] != two["split"] or one["images"] != two["images"]:
            return
        same = [name for name, table in one["attacks"].items() if two["attacks"].get(name) == table]
        for attack in ("natural", *same):
            paired = mcnemar(_correct(mine.group, attack), _correct(other.group, attack))
            yield Difference(
                first=mine.model,
                second=other.model,
                attack=attack,
                difference=paired.difference,
                p_value=paired.p_value,
            )


def _correct(group: Group, attack: str) -> np.ndarray:
    """Which images are classified rightly under an attack, `(images,)`, bool."""
    return group["correct"][[str(name) for name in group["attack"]].index(attack)] == 1


@contextmanager
def evaluation_warnings(context: Context) -> Iterator[None]:
    """Report failed checks of an evaluation as progress; the store holds them as well."""
    with warnings.catch_warnings(record=True) as caught:
        # "always": Python prints a warning once for each place, but every stage has checks of its own.
        warnings.simplefilter("always", EvaluationWarning)
        yield
    for text in dict.fromkeys(str(item.message) for item in caught):
        context.tell(text=f"warning: {text}", lasting=True)


@dataclass(frozen=True, kw_only=True)
class Accuracy(Finding):
    """The share of `images` that `model` classifies rightly, with its 95 % interval; `attack` may be `natural`."""

    stage: str
    model: str
    attack: str
    accuracy: float
    interval: tuple[float, float]
    images: int


def _accuracy_lines(found: Sequence[Accuracy]) -> list[str]:
    lines = []
    for stage, own in itertools.groupby(found, key=lambda row: row.stage):
        rows = list(own)
        said = [f"{row.attack} {row.accuracy:.1%} ({row.interval[0]:.1%} to {row.interval[1]:.1%})" for row in rows]
        lines.append(f"{rows[0].model} [{stage}, {rows[0].images} images]: {', '.join(said)}")
    return lines


def _accuracy_grid(found: Sequence[Accuracy]) -> Grid:
    """A row for each network and attack stage, a column for each attack."""
    attacks = tuple(dict.fromkeys(row.attack for row in found))
    rows: list[tuple[Cell, ...]] = []
    stages = {row.stage: row.model for row in found}
    # The stage tells rows apart that are about the same network.
    told = len(set(stages.values())) < len(stages)
    for stage, model in stages.items():
        cells = {
            row.attack: Cell(
                text=f"{row.accuracy:.1%}",
                detail=f"{100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f}",
                tone="strong",
            )
            for row in found
            if row.stage == stage
        }
        first = (Cell(text=model, tone="strong"), *((Cell(text=stage, tone="faint"),) if told else ()))
        rows.append((*first, *(cells.get(attack, Cell()) for attack in attacks)))
    images = " and ".join(f"{number:,}" for number in sorted({row.images for row in found}))
    head = ("network", *(("stage",) if told else ()), *attacks)
    return Grid(rows=tuple(rows), note=f"on {images} images, with 95 % intervals", head=head)


Accuracy.section = Section(
    key="accuracies",
    title="Accuracy",
    line_title="Accuracy, with 95 % intervals",
    place=10,
    lines=_accuracy_lines,
    grid=_accuracy_grid,
)


@dataclass(frozen=True, kw_only=True)
class Difference(Finding):
    """Accuracy of the second network minus that of the first on the same images, and McNemar's p-value."""

    first: str
    second: str
    attack: str
    difference: float
    p_value: float

    def identity(self) -> Hashable:
        return (self.first, self.second, self.attack)


def _difference_lines(found: Sequence[Difference]) -> list[str]:
    lines = []
    for (first, second), own in itertools.groupby(found, key=lambda row: (row.first, row.second)):
        said = [f"{row.attack} {100 * row.difference:+.1f} points (p = {row.p_value:.2g})" for row in own]
        lines.append(f"{second} - {first}: {', '.join(said)}")
    return lines


def _difference_grid(found: Sequence[Difference]) -> Grid:
    attacks = tuple(dict.fromkeys(row.attack for row in found))
    rows = []
    for (first, second), own in itertools.groupby(found, key=lambda row: (row.first, row.second)):
        cells = {}
        for row in own:
            tone = "plain" if row.p_value >= 0.05 else "good" if row.difference > 0 else "bad"
            said = f"p {chance_text(row.p_value)}"
            cells[row.attack] = Cell(text=f"{100 * row.difference:+.1f}", detail=said, tone=tone)
        name = Cell(text=f"{second} - {first}", tone="strong")
        rows.append((name, *(cells.get(attack, Cell()) for attack in attacks)))
    note = "in percentage points, on the same images; p of McNemar's test"
    return Grid(rows=tuple(rows), note=note, head=("", *attacks), shown=12)


Difference.section = Section(
    key="differences",
    title="Differences",
    line_title="Differences on the same images",
    place=20,
    lines=_difference_lines,
    grid=_difference_grid,
)


class FailedCheck(Remark):
    """A check of an evaluation that failed: the robust accuracy may be too high."""


FailedCheck.section = remarks(key="failed_checks", title="Checks that failed", place=60, tone="bad")
AttackStage.sections = (Accuracy.section, Difference.section, FailedCheck.section)


def robustness_group(
    evaluation: Evaluation,
    *,
    class_names: tuple[str, ...],
    data: str,
    provenance: Mapping[str, str],
    name: str = "robustness",
) -> Group:
    """Accuracies with intervals, of each class, the outcome of every image, and the checks (section 7).

    The entries of `attack` are `natural`, the attacks, and `worst_case`. `data`: the title of the data set.
    """
    rows = {**evaluation, "worst_case": evaluation.worst_case}
    checks = evaluation.checks  # a store has no empty arrays: without checks there is nothing about them
    names = tuple(check.name for check in checks)
    return Group(
        name=name,
        kind="attack",
        coordinates=(
            Coordinate(name="attack", values=tuple(rows), long_name="attack"),
            class_coordinates(class_names)[0],
            Coordinate(name="bound", values=("low", "high"), long_name="end of a 95 % confidence interval"),
            Coordinate(
                name="image", values=np.arange(len(evaluation.worst_case.labels)), long_name="number of an image"
            ),
            *((Coordinate(name="check", values=names, long_name="check of the evaluation"),) if checks else ()),
        ),
        variables=(*_accuracies(rows), *_images(rows), *(_checks(evaluation) if checks else ())),
        attributes={"data": data, "seed": evaluation.seed, "search": "; ".join(evaluation.notes)},
        provenance=provenance,
    )


def _accuracies(rows: Mapping[str, Outcome]) -> tuple[Variable, ...]:
    return (
        Variable(
            name="accuracy",
            data=np.array([outcome.accuracy for outcome in rows.values()]),
            dimensions=("attack",),
            long_name="share of the images that are classified rightly",
        ),
        Variable(
            name="interval",
            data=np.array([outcome.interval for outcome in rows.values()]),
            dimensions=("attack", "bound"),
            long_name="95 % confidence interval of the accuracy (Wilson)",
        ),
        Variable(
            name="class_accuracy",
            data=np.stack([as_array(outcome.per_class) for outcome in rows.values()]),
            dimensions=("attack", "class"),
            long_name="share of the images of a class that are classified rightly",
        ),
    )


def _images(rows: Mapping[str, Outcome]) -> tuple[Variable, ...]:
    labels = as_array(next(iter(rows.values())).labels)
    distances = [
        np.full(len(labels), np.nan, dtype=np.float32)
        if outcome.distances is None
        else as_array(outcome.distances).astype(np.float32)
        for outcome in rows.values()
    ]
    return (
        Variable(name="label", data=labels.astype(np.int32), dimensions=("image",), long_name="label of an image"),
        Variable(
            name="prediction",
            data=np.stack([as_array(outcome.predictions) for outcome in rows.values()]).astype(np.int32),
            dimensions=("attack", "image"),
            long_name="label that an attacked image gets",
        ),
        Variable(
            name="correct",
            data=np.stack([as_array(outcome.per_sample) for outcome in rows.values()]),
            dimensions=("attack", "image"),
            long_name="whether an attacked image is classified rightly",
        ),
        Variable(
            name="distance",
            data=np.stack(distances),
            dimensions=("attack", "image"),
            long_name="how far an image was moved, in the norm of the attack",
            comment="pixels run from 0 to 1; not a number where nothing was moved by one attack",
        ),
    )


def _checks(evaluation: Evaluation) -> tuple[Variable, ...]:
    return (
        Variable(
            name="check_passed",
            data=np.array([check.passed for check in evaluation.checks]),
            dimensions=("check",),
            long_name="whether a check of the evaluation passed",
        ),
        Variable(
            name="check_detail",
            data=np.array([check.detail for check in evaluation.checks], dtype=object),
            dimensions=("check",),
            long_name="what a check of the evaluation found",
        ),
    )

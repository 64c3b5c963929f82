"""What a run found, in a few lines: accuracies, what C shows of the hierarchy, superclasses by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from surgery.hierarchy import Hierarchy, block_contrast
from surgery.recipe.recipe import Recipe, Stage
from surgery.recipe.running.folder import RunFolder
from surgery.recipe.running.values import has
from surgery.store import Group

WORST = "worst_case"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A share of `images` that `model` is right on, with its 95 % interval; `attack` may be `natural`."""

    stage: str
    model: str
    attack: str
    accuracy: float
    interval: tuple[float, float]
    images: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much more accurate the second model is than the first on the same images, and McNemar's p-value."""

    first: str
    second: str
    attack: str
    difference: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Block contrast of a matrix (`C`, `C centred`, `M`) for the known hierarchy of the data."""

    stage: str
    model: str
    matrix: str
    block_contrast: float


@dataclass(frozen=True, kw_only=True)
class Superclasses:
    """The superclasses that a cluster stage found, by class names, and how well they agree with the reference."""

    stage: str
    model: str
    groups: tuple[tuple[str, ...], ...]
    adjusted_rand_index: float | None
    p_value: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Everything that a run has to say, in the order of its stages.

    `notices`: what training noticed, as a robust accuracy that fell while it went on. `failed_checks`: of evaluations.
    """

    accuracies: tuple[Accuracy, ...]
    differences: tuple[Difference, ...]
    contrasts: tuple[Contrast, ...]
    superclasses: tuple[Superclasses, ...]
    notices: tuple[str, ...]
    failed_checks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The verdict in words."""
        return [
            *_titled("Accuracy, with 95 % intervals", self._accuracy_lines()),
            *_titled("Differences on the same images", self._difference_lines()),
            *_titled("Block contrast for the known hierarchy", self._contrast_lines()),
            *_titled("Superclasses found", self._superclass_lines()),
            *_titled("Noticed in training", self.notices),
            *_titled("Checks that failed", self.failed_checks),
        ]

    def _accuracy_lines(self) -> Iterator[str]:
        for stage, found in itertools.groupby(self.accuracies, key=lambda item: item.stage):
            rows = list(found)
            said = [f"{row.attack} {row.accuracy:.1%} ({row.interval[0]:.1%} to {row.interval[1]:.1%})" for row in rows]
            yield f"{rows[0].model} [{stage}, {rows[0].images} images]: {', '.join(said)}"

    def _difference_lines(self) -> Iterator[str]:
        for pair, found in itertools.groupby(self.differences, key=lambda item: (item.first, item.second)):
            said = [f"{row.attack} {100 * row.difference:+.1f} points (p = {row.p_value:.2g})" for row in found]
            yield f"{pair[1]} against {pair[0]}: {', '.join(said)}"

    def _contrast_lines(self) -> Iterator[str]:
        for model in dict.fromkeys(row.model for row in self.contrasts):
            rows = [row for row in self.contrasts if row.model == model]
            yield f"{model}: {', '.join(f'{row.matrix} {row.block_contrast:+.2f}' for row in rows)}"

    def _superclass_lines(self) -> Iterator[str]:
        for row in self.superclasses:
            groups = " | ".join(", ".join(names) for names in row.groups)
            score = "" if row.adjusted_rand_index is None else f"; adjusted Rand index {row.adjusted_rand_index:.2f}"
            chance = "" if row.p_value is None else f", p = {row.p_value:.2g}"
            yield f"{row.model} [{row.stage}]: {groups}{score}{chance}"


def verdict(recipe: Recipe, folder: RunFolder, known: Hierarchy | None, stages: Sequence[str]) -> Verdict:
    """Sum up what `stages`, which are finished, left in the store; `known`: the hierarchy of the data."""
    groups = {name: folder.read(name) for name in stages}
    of = {name: recipe.stage(name) for name in stages}
    attacks = [name for name in stages if of[name].kind == "attack"]
    return Verdict(
        accuracies=tuple(
            row for name in attacks for row in _accuracies(name, model_of(recipe, of[name]), groups[name])
        ),
        differences=tuple(_differences(recipe, [of[name] for name in attacks], groups)),
        contrasts=tuple(row for name in stages for row in _contrasts(recipe, of[name], groups[name], known)),
        superclasses=tuple(
            _superclasses(name, model_of(recipe, of[name]), groups[name])
            for name in stages
            if of[name].kind == "cluster"
        ),
        notices=tuple(
            f"{name}: {groups[name].attributes['notices']}" for name in stages if groups[name].attributes.get("notices")
        ),
        failed_checks=tuple(text for name in attacks for text in _failed(name, groups[name])),
    )


def model_of(recipe: Recipe, stage: Stage) -> str:
    """The network that a stage is about, as the recipe calls it: through its maps and graphs if need be."""
    for role in ("model", "graph", "map"):
        if role in stage.inputs:
            found = stage.inputs[role]
            return str(found) if role == "model" else model_of(recipe, recipe.stage(found.stage))
    return str(getattr(stage.parameters, "file", None) or stage.name)


def _accuracies(stage: str, model: str, group: Group) -> Iterator[Accuracy]:
    """The worst case only where there are several attacks."""
    names = [str(name) for name in group["attack"]]
    for index, name in enumerate(names):
        if name != WORST or len(names) > 3:
            low, high = group["interval"][index]
            yield Accuracy(
                stage=stage,
                model=model,
                attack=name.replace("_", " "),
                accuracy=float(group["accuracy"][index]),
                interval=(float(low), float(high)),
                images=len(group["label"]),
            )


def _differences(recipe: Recipe, stages: Sequence[Stage], groups: Mapping[str, Group]) -> Iterator[Difference]:
    """Every two models that were put under the same attack on the same images."""
    told = set()
    for first, second in itertools.combinations(stages, 2):
        models = model_of(recipe, first), model_of(recipe, second)
        for attack in _shared_attacks(first, second):
            if models[0] != models[1] and (*models, attack) not in told:
                told.add((*models, attack))
                one, other = (_outcomes(groups[stage.name], attack) for stage in (first, second))
                yield _difference(*models, attack, one, other)


def _shared_attacks(first: Stage, second: Stage) -> list[str]:
    """The attacks of both stages that are the same by name and by their settings; none where the images differ.

    Repetitions for several seeds are not set against each other: each seed stands for itself.
    """
    one, other = (stage.parameters.model_dump() for stage in (first, second))
    seeds = [stage.choice.get("seed") for stage in (first, second)]
    if one["split"] != other["split"] or one["images"] != other["images"] or seeds[0] != seeds[1]:
        return []
    attacks = [name for name, table in one["attacks"].items() if other["attacks"].get(name) == table]
    return ["natural", *attacks]


def _outcomes(group: Group, attack: str) -> np.ndarray:
    """Which images are still right."""
    return group["correct"][[str(name) for name in group["attack"]].index(attack)]


def _difference(first: str, second: str, attack: str, one: np.ndarray, other: np.ndarray) -> Difference:
    only_first, only_second = int(((one == 1) & (other == 0)).sum()), int(((one == 0) & (other == 1)).sum())
    changed = only_first + only_second
    return Difference(
        first=first,
        second=second,
        attack=attack,
        difference=float(other.mean() - one.mean()),
        p_value=float(binomtest(only_first, changed).pvalue) if changed else 1.0,
    )


def _contrasts(recipe: Recipe, stage: Stage, group: Group, known: Hierarchy | None) -> Iterator[Contrast]:
    """Of C, plain and centred, and of M, whose group says its own."""
    model = model_of(recipe, stage)
    if group.kind == "confusion" and "block_contrast" in group.attributes:
        matrix = "M targeted" if group.attributes["targeted"] else "M"
        contrast = float(group.attributes["block_contrast"])
        yield Contrast(stage=stage.name, model=model, matrix=matrix, block_contrast=contrast)
    if group.kind != "linear" or known is None or tuple(map(str, group["class"])) != known.class_names:
        return
    if 1 < known.num_superclasses < len(known.class_names):
        for matrix, name in {"C": "correlation", "C centred": "correlation_centered"}.items():
            contrast = block_contrast(group[name].copy(), known.superclass)
            yield Contrast(stage=stage.name, model=model, matrix=matrix, block_contrast=contrast)


def _superclasses(stage: str, model: str, group: Group) -> Superclasses:
    names, numbers = [str(name) for name in group["class"]], group["superclass"]
    scores = group.attributes
    return Superclasses(
        stage=stage,
        model=model,
        groups=tuple(
            tuple(name for name, own in zip(names, numbers, strict=True) if own == number)
            for number in range(int(numbers.max()) + 1)
        ),
        adjusted_rand_index=_number(scores.get("adjusted_rand_index")),
        p_value=_number(scores.get("p_value")),
    )


def _failed(stage: str, group: Group) -> Iterator[str]:
    if not has(group, "check_passed"):
        return
    for name, passed, detail in zip(group["check"], group["check_passed"], group["check_detail"], strict=True):
        if not passed:
            yield f"{stage}: {name}: {detail}"


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _titled(title: str, lines: Sequence[str] | Iterator[str]) -> list[str]:
    found = list(lines)
    return [title, *(f"  {line}" for line in found)] if found else []

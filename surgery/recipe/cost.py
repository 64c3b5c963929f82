"""What a stage costs, about: how many images go forward and back through a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from surgery.attack import Attack
from surgery.recipe.fields import Table
from surgery.recipe.recipe import Stage
from surgery.recipe.stages import AttackStage, ConfusionStage, ExtractStage, FeaturesStage, TrainStage
from surgery.recipe.training import StandardTable


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a data set: images in its splits, and classes."""

    train: int
    validation: int
    test: int
    classes: int

    def of(self, split: str, images: int | None) -> int:
        """Images that a stage looks at: those of `split`, or only `images` of them."""
        size = {"train": self.train, "validation": self.validation, "test": self.test}[split]
        return size if images is None else min(images, size)


def passes(stage: Stage, sizes: Sizes) -> int:
    """Images that go forward and back, over the whole of a stage; early stops, which take some away, do not count."""
    count = _COSTS.get(type(stage.parameters))
    return 0 if count is None else count(stage.parameters, sizes)


def _train(stage: Table, sizes: Sizes) -> int:
    assert isinstance(stage, TrainStage), "looked up by its type"
    objective, select = stage.objective, stage.select
    steps = 0 if isinstance(objective, StandardTable) else objective.attack.steps
    both = 2 if objective.kind in ("trades", "mart") else 1
    training = stage.epochs * sizes.train * (steps + both)
    evaluations = -(-stage.epochs // select.every) if select.every else 0
    each = 1 + (0 if select.attack is None else _steps(select.attack.value()))
    return training + evaluations * sizes.of(select.on, None) * each


def _attack(stage: Table, sizes: Sizes) -> int:
    assert isinstance(stage, AttackStage), "looked up by its type"
    return sizes.of(stage.split, stage.images) * (1 + sum(_steps(attack.value()) for attack in stage.attacks.values()))


def _confusion(stage: Table, sizes: Sizes) -> int:
    assert isinstance(stage, ConfusionStage), "looked up by its type"
    rounds = sizes.classes - 1 if stage.targeted else 1
    return sizes.of(stage.split, stage.images) * (1 + rounds * _steps(stage.attack.value()))


def _features(stage: Table, sizes: Sizes) -> int:
    assert isinstance(stage, FeaturesStage), "looked up by its type"
    return sizes.of(stage.split, stage.images)


def _extract(stage: Table, sizes: Sizes) -> int:
    return sizes.classes


def _steps(attack: Attack) -> int:
    return attack.steps * attack.restarts


_COSTS: Mapping[type[Table], Callable[[Table, Sizes], int]] = {
    TrainStage: _train,
    AttackStage: _attack,
    ConfusionStage: _confusion,
    FeaturesStage: _features,
    ExtractStage: _extract,
}

"""The stage kinds `attack` and `confusion`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from surgery.attack import EvaluationWarning, confusion_matrix, evaluate
from surgery.recipe.running.context import Context
from surgery.recipe.running.values import images_of
from surgery.recipe.stages import AttackStage, ConfusionStage
from surgery.store import Group
from surgery.store.stages import confusion_group, robustness_group


def attack(context: Context, stage: AttackStage) -> Group:
    """Natural and robust accuracies, going on after the last chunk of an earlier try."""
    with _told_warnings(context):
        result = evaluate(
            context.network(),
            images_of(stage, context.data),
            {name: table.value() for name, table in stage.attacks.items()},
            batch_size=stage.batch_size,
            seed=context.seed,
            device=context.device,
            engine=stage.engine.value(),
            chunks=context.folder.chunks(context.stage.name, context.record.key),
            progress=context.steps("attacking"),
        )
    return robustness_group(
        result,
        class_names=context.data.class_names,
        data=context.data.title,
        provenance=context.provenance(),
        name=context.stage.name,
    )


def confusion(context: Context, stage: ConfusionStage) -> Group:
    """The attack confusion matrix M."""
    with _told_warnings(context):
        result = confusion_matrix(
            context.network(),
            images_of(stage, context.data),
            stage.attack.value(),
            targeted=stage.targeted,
            batch_size=stage.batch_size,
            seed=context.seed,
            device=context.device,
            engine=stage.engine.value(),
            chunks=context.folder.chunks(context.stage.name, context.record.key),
            progress=context.steps("attacking"),
        )
    return confusion_group(
        result,
        class_names=context.data.class_names,
        hierarchy=context.data.hierarchy,
        data=context.data.title,
        seed=context.seed,
        provenance=context.provenance(),
        name=context.stage.name,
    )


@contextmanager
def _told_warnings(context: Context) -> Iterator[None]:
    """Checks that fail are told as they are found, and are in the store."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EvaluationWarning)
        yield
    for text in dict.fromkeys(str(item.message) for item in caught):
        context.tell(text=f"warning: {text}", lasting=True)

"""The stage `attack`: natural and robust accuracies, image by image, as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surgery.attack import Evaluation, Outcome
from surgery.store.stages.arrays import as_array
from surgery.store.values import Coordinate, Group, Variable, class_coordinates


def robustness_group(
    evaluation: Evaluation,
    *,
    class_names: tuple[str, ...],
    data: str,
    provenance: Mapping[str, str],
    name: str = "robustness",
) -> Group:
    """Accuracies with intervals, of each class, what became of every image, and the checks (section 7).

    The entries of `attack` are `natural`, the attacks, and `worst_case`. `data` is what figures call the images.
    """
    rows = {**evaluation, "worst_case": evaluation.worst_case}
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
            *_check_names(evaluation),
        ),
        variables=(*_accuracies(rows), *_images(rows), *_checks(evaluation)),
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
    distances = [_distances(outcome, len(labels)) for outcome in rows.values()]
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


def _check_names(evaluation: Evaluation) -> tuple[Coordinate, ...]:
    """None where nothing was checked: a store has no empty arrays."""
    names = tuple(check.name for check in evaluation.checks)
    return (Coordinate(name="check", values=names, long_name="check of the evaluation"),) if names else ()


def _checks(evaluation: Evaluation) -> tuple[Variable, ...]:
    if not evaluation.checks:
        return ()
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


def _distances(outcome: Outcome, count: int) -> np.ndarray:
    if outcome.distances is None:
        return np.full(count, np.nan, dtype=np.float32)
    return as_array(outcome.distances).astype(np.float32)

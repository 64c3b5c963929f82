"""Printing of accuracies under attack and of attack confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from surgery.attack import Confusion, Evaluation, Outcome, settings_of
from surgery.data import Dataset
from surgery.errors import InputError
from surgery_cli.show.matrix import Order, matrix_view
from surgery_cli.show.pieces import count, heading, table
from surgery_cli.show.results import surface

CLASSES = 20
"""The number of classes up to which their accuracies are printed without --verbose."""


def evaluation_dict(evaluation: Evaluation, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracies and checks as plain values."""
    return {
        "images": len(evaluation.worst_case.labels),
        "outcomes": {
            name: {
                "accuracy": outcome.accuracy,
                "interval": list(outcome.interval),
                "per_class": dict(zip(class_names, outcome.per_class.tolist(), strict=False)),
                "attack": None if outcome.attack is None else settings_of(outcome.attack),
                "seconds": outcome.seconds,
            }
            for name, outcome in _rows(evaluation).items()
        },
        "checks": [vars(check) for check in evaluation.checks],
        "notices": list(evaluation.notices),
        "search": list(evaluation.notes),
    }


def evaluation_view(
    evaluation: Evaluation, class_names: tuple[str, ...], *, title: str, verbose: bool
) -> Iterator[RenderableType]:
    """Accuracies with intervals, by class, and the checks."""
    rows = _rows(evaluation)
    yield heading(title, f"{count(len(evaluation.worst_case.labels), 'image')}, accuracy with its 95 % interval")
    yield table(
        [
            (
                Text(name, style="bold"),
                f"{outcome.accuracy:.2%}",
                "{:.2%} to {:.2%}".format(*outcome.interval),
                f"{outcome.seconds:.1f} s",
            )
            for name, outcome in rows.items()
        ],
        right=(1, 2, 3),
    )
    if verbose or len(class_names) <= CLASSES:
        yield heading("Classes")
        yield table(
            [
                (label, *(f"{float(outcome.per_class[number]):.1%}" for outcome in rows.values()))
                for number, label in enumerate(class_names)
            ],
            right=tuple(range(1, len(rows) + 1)),
            head=("", *rows),
        )
    failed = [check for check in evaluation.checks if not check.passed]
    yield heading("Checks", f"{len(evaluation.checks) - len(failed)} of {len(evaluation.checks)} passed")
    checks = [
        (
            Text("passed" if check.passed else "failed", style="green" if check.passed else "bold red"),
            check.name,
            check.detail,
        )
        for check in (evaluation.checks if verbose else failed)
    ]
    if checks:
        yield table(checks)
    yield Text(f"  {'; '.join(evaluation.notes)}", style="dim")


def confusion_dict(confusion: Confusion, data: Dataset) -> dict[str, Any]:
    """M and its counts as plain values."""
    contrast = None
    if data.hierarchy is not None:
        with suppress(InputError):  # without a pair of classes within a superclass or across there is no contrast
            contrast = confusion.contrast(data.hierarchy)
    return {
        "targeted": confusion.targeted,
        "class_names": list(data.class_names),
        "confusion": confusion.matrix.tolist(),
        "counts": confusion.counts.tolist(),
        "block_contrast": contrast,
        "search": list(confusion.notes),
    }


def confusion_view(confusion: Confusion, data: Dataset, *, verbose: bool) -> Iterator[RenderableType]:
    """M as colored blocks or numbers, and the contrast of its blocks where superclasses are known."""
    kind = "targeted" if confusion.targeted else "untargeted"
    images = count(int(confusion.images_per_class.sum()), "image")
    yield heading(f"{data.title}, {kind} attack", f"{images}; row: true class, column: class it becomes")
    facts = confusion_dict(confusion, data)
    order = None
    if data.hierarchy is not None:
        labels = tuple(str(number) for number in data.hierarchy.superclass)
        order = Order(group=data.hierarchy.method, classes=data.class_names, superclasses=labels, known=True)
    yield from matrix_view(confusion.matrix.numpy(), data.class_names, surface(order, verbose=verbose))
    if facts["block_contrast"] is not None:
        yield Text(f"  block contrast {facts['block_contrast']:+.3f}: mean within superclasses minus mean across them")


def _rows(evaluation: Evaluation) -> dict[str, Outcome]:
    """The outcomes, and the worst case if there are several attacks."""
    # Natural images are an outcome too: with two outcomes, the single attack is its own worst case.
    return {**evaluation, **({"worst case": evaluation.worst_case} if len(evaluation) > 2 else {})}

"""`evaluate` and `perturb`: natural and robust accuracies, image by image, with checks; and the attacked images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from surgery.attack.attack import Attack
from surgery.attack.batches import Batch, attack_batch
from surgery.attack.checks import (
    Check,
    check_epsilon_zero,
    check_gradients,
    check_mode,
    check_more_steps,
    check_within,
    distances,
    warn,
)
from surgery.attack.chunks import BATCH, Chunks, Progress, Walk
from surgery.attack.engine import Engine
from surgery.attack.outcomes import Evaluation, Outcome, worst_of
from surgery.attack.samples import Data
from surgery.attack.subject import Subject, check_names, subject_of
from surgery.errors import InputError


def evaluate(
    model: nn.Module,
    data: Data,
    attacks: Mapping[str, Attack],
    *,
    batch_size: int = BATCH,
    seed: int = 0,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
    chunks: Chunks | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Attack `model` on `data`, which is images and labels, a split, or a data set (its test images).

    An image is robust where the model itself, in float32, is right on it as it is and on what the attack makes of it:
    every iterate that the search takes for a success, and the last. The result depends on `seed`, not on `batch_size`
    nor on the order of the images: random numbers belong to an image. `engine` says how the search is made fast. A
    targeted attack tries all other classes in turn. `device` defaults to that of the model; on another one a copy is
    attacked. The mode of the model comes back as it was; nothing else of it changes. With `chunks`, what is finished is
    kept and not computed again.

    Checks that fail are in the result, and warned about as EvaluationWarning.

    Raises InputError for images that are not in [0, 1], labels that are out of range, a model whose outputs do not fit,
    and an epsilon that allows any image.
    """
    check_names(attacks)
    with subject_of(model, data, attacks.values(), engine=engine or Engine(), device=device) as subject:
        count = len(subject.samples)
        walk = Walk(count=count, size=batch_size, rounds=len(attacks), chunks=chunks, progress=progress)
        natural = _natural(subject, walk)
        found = {
            name: _attacked(subject, walk, name, attack, natural.predictions, number=number, seed=seed)
            for number, (name, attack) in enumerate(attacks.items())
        }
        checks = (*subject.checks, *_checks(subject, found, seed=seed))
        notes = subject.victim.notes
    warn(checks)
    outcomes = {"natural": natural, **found}
    return Evaluation(outcomes=outcomes, worst_case=worst_of(outcomes), checks=checks, notes=notes, seed=seed)


def perturb(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    *,
    targets: Tensor | None = None,
    seed: int = 0,
    ids: Tensor | None = None,
    batch_size: int = BATCH,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
) -> Tensor:
    """The attacked images `(n, channels, height, width)`, float32 in [0, 1], where the images are.

    `targets` `(n,)`: the classes that a targeted attack is to reach. `ids` `(n,)`: numbers that random starts depend on
    instead of the pixels. An attack with `early_stop` returns an image as it was when the model first gave in, which is
    just over the boundary: one that is meant for another model takes all its steps with `early_stop=False`.

    Raises InputError as `evaluate` does, and where targets are missing, or given without need.
    """
    _check_targets(attack, targets, ids, labels)
    with subject_of(model, (images, labels), [attack], engine=engine or Engine(), device=device) as subject:
        if targets is not None:
            _check_reachable(targets, labels, subject.num_classes)
        walk = Walk(count=len(images), size=batch_size, rounds=1, chunks=None, progress=None)
        parts = [_perturbed(subject, part, targets, ids, attack, seed=seed) for part in walk.parts()]
    warn(subject.checks)
    return torch.cat(parts).to(images.device)


def _check_targets(attack: Attack, targets: Tensor | None, ids: Tensor | None, labels: Tensor) -> None:
    if (targets is not None) != attack.targeted:
        raise InputError("a targeted attack goes with targets" if attack.targeted else "targets need a targeted attack")
    for what, given in (("targets", targets), ("ids", ids)):
        if given is not None and (given.shape != labels.shape or given.is_floating_point()):
            raise InputError(f"{what} are whole numbers, one for each of the {len(labels)} images")


def _check_reachable(targets: Tensor, labels: Tensor, num_classes: int) -> None:
    wrong = (targets < 0) | (targets >= num_classes) | (targets == labels.to(targets.device))
    if bool(wrong.any()):
        where = int(wrong.nonzero()[0])
        raise InputError(
            f"image {where} with label {int(labels[where])} has target {int(targets[where])}; "
            f"another class, 0 to {num_classes - 1}, is expected"
        )


def _natural(subject: Subject, walk: Walk) -> Outcome:
    def compute(first: int, last: int) -> Tensor:
        images, _ = subject.batch(first, last)
        return subject.victim.predict(images)[:, None]

    return _outcome(subject, None, walk.gather("natural", 1, compute))


def _attacked(
    subject: Subject, walk: Walk, name: str, attack: Attack, natural: Tensor, *, number: int, seed: int
) -> Outcome:
    def compute(first: int, last: int) -> Tensor:
        images, labels = subject.batch(first, last)
        batch = Batch.of(images, labels, targets=subject.others(labels) if attack.targeted else None)
        before = natural[first:last].to(labels.device)
        found = attack_batch(subject.victim, batch, attack, seed=seed, before=before)
        return torch.stack([found.predictions.double(), distances(images, found.images, attack)], dim=1)

    return _outcome(subject, attack, walk.gather(name, 2, compute, number=number))


def _outcome(subject: Subject, attack: Attack | None, rows: Tensor) -> Outcome:
    return Outcome(
        attack=attack,
        labels=subject.samples.labels.cpu(),
        predictions=rows[:, 0].long(),
        distances=None if attack is None else rows[:, 1],
        num_classes=subject.num_classes,
        seconds=float(rows[:, -1].sum()),
    )


def _checks(subject: Subject, found: Mapping[str, Outcome], *, seed: int) -> Iterator[Check]:
    """What can be checked once the attacks have run."""
    victim, few = subject.victim, subject.few
    yield check_mode(
        subject.model, victim.truth, few.images, name="evaluation mode afterwards", came="still in evaluation mode"
    )
    attacks = {name: outcome.attack for name, outcome in found.items() if outcome.attack is not None}
    for name, attack in attacks.items():
        moved = found[name].distances
        assert moved is not None, "attacks measure distances"
        yield check_within(name, attack, moved)
    yield check_gradients(victim, few, attacks.values())
    yield check_epsilon_zero(victim, few, attacks, seed=seed)
    for name, attack in attacks.items():
        if attack.steps > 1:
            yield check_more_steps(victim, few, name, attack, seed=seed)


def _perturbed(
    subject: Subject, part: slice, targets: Tensor | None, ids: Tensor | None, attack: Attack, *, seed: int
) -> Tensor:
    images, labels = subject.batch(part.start, part.stop)
    wanted = None if targets is None else targets[part].to(labels.device)
    keys = None if ids is None else ids[part].to(labels.device)
    towards = None if wanted is None else wanted[:, None]
    batch = Batch.of(images, labels, targets=towards, wanted=wanted, keys=keys)
    return attack_batch(subject.victim, batch, attack, seed=seed).images

"""`evaluate` and `perturb`: natural and robust accuracies, image by image, with checks; and the attacked images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from surgery.attack.batches import attack_batch
from surgery.attack.checks import (
    Check,
    attempt,
    check_epsilon_zero,
    check_gradients,
    check_mode,
    check_more_steps,
    check_within,
    distances,
    warn,
)
from surgery.attack.chunks import BATCH, Chunks, Progress, Runner, runner_of
from surgery.attack.engine import Engine
from surgery.attack.interface import AttackProtocol, accepts_targets, check_attack, check_attack_names
from surgery.attack.outcomes import Evaluation, Outcome, worst_of
from surgery.attack.pgd import Attack
from surgery.attack.random_start import generator_of
from surgery.attack.samples import Data
from surgery.errors import InputError

Keep = Callable[[str, slice, Tensor], None]
"""Called with the name of an attack, the numbers of a chunk of images, and these images after the attack, float32."""


def evaluate(
    model: nn.Module,
    data: Data,
    attacks: Mapping[str, AttackProtocol] | AttackProtocol,
    *,
    batch_size: int = BATCH,
    seed: int = 0,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
    chunks: Chunks | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> Evaluation:
    """Attack `model` on `data`: images and labels, a split, a data set (its test images), or a data set or loader of
    torch. `attacks`: attacks by name, or a single attack, whose outcome is then called `attack`.

    An image is robust if the model itself, in float32, is right on it without an attack and on every iterate that the
    attack yields as a success, and on the last one. The result depends on `seed`, not on `batch_size` or the order of
    the images: random numbers belong to an image. `engine` sets how the search is made fast. A targeted attack tries
    all other classes in turn. `device` defaults to that of the model; on another device a copy is attacked. Afterwards
    the mode of the model is restored; nothing else of it changes. Finished `chunks` are kept and not computed again.
    `keep` is called with the attacked images of every chunk that is computed.

    Failed checks are in the result, and each is an EvaluationWarning.

    Raises InputError for images that are not in [0, 1], labels that are out of range, a model whose outputs do not fit,
    an epsilon that allows any image, and names or values that are no attacks.
    """
    if not isinstance(attacks, Mapping):
        check_attack(attacks, what="attacks")
        attacks = {"attack": attacks}
    _check_attacks(attacks)
    with runner_of(
        model,
        data,
        attacks.values(),
        engine=engine,
        device=device,
        batch_size=batch_size,
        chunks=chunks,
        progress=progress,
    ) as runner:
        target = runner.target
        rows = runner.gather("natural", 1, lambda part, images, labels: target.predict(images)[:, None])
        outcomes = {"natural": _outcome(runner, None, rows)}
        for number, (name, attack) in enumerate(attacks.items()):
            # Known from the first round over the images, and the same for all attacks.
            before = outcomes["natural"].predictions
            outcomes[name] = _attacked(
                runner, name, attack, before, number=number, rounds=len(attacks), seed=seed, keep=keep
            )
        checks = (*runner.checks, *_checks(runner, attacks, outcomes, seed=seed))
        worst = worst_of(outcomes)
    # After the model is restored: a filter that turns warnings into errors must not leave it in evaluation mode.
    warn(checks)
    return Evaluation(outcomes=outcomes, worst_case=worst, checks=checks, notes=target.notes, seed=seed)


def perturb(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: AttackProtocol,
    *,
    targets: Tensor | None = None,
    seed: int = 0,
    ids: Tensor | None = None,
    batch_size: int = BATCH,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
) -> Tensor:
    """The attacked images `(n, channels, height, width)`, float32 in [0, 1], on the device of `images`.

    `targets` `(n,)`: the classes that a targeted attack has to reach. `ids` `(n,)`: numbers that random numbers depend
    on instead of the pixels. An attack with `early_stop` returns an image at its first success, just over the decision
    boundary: for images that are meant for another model use `early_stop=False`.

    Raises InputError as `evaluate` does, and for targets that are missing or that the attack does not use.
    """
    check_attack(attack, what="the attack")
    if targets is None and getattr(attack, "targeted", False):
        raise InputError(
            "the attack is targeted: expected targets, one class for each image, got none", hint="targets=..."
        )
    if targets is not None and not (getattr(attack, "targeted", True) and accepts_targets(attack)):
        raise InputError("targets need a targeted attack", hint="as pgd(..., targeted=True) makes it")
    for what, given in (("targets", targets), ("ids", ids)):
        if given is not None and (given.shape != labels.shape or given.is_floating_point()):
            raise InputError(f"{what} are whole numbers, one for each of the {len(labels)} images")
    with runner_of(model, (images, labels), [attack], engine=engine, device=device, batch_size=batch_size) as runner:
        if targets is not None:
            _check_reachable(targets, labels, runner.target.num_classes)
        attacked = []
        for part in runner.parts():
            batch, batch_labels = runner.batch(part)
            found = attack_batch(
                runner.target,
                attack,
                batch,
                batch_labels,
                generator=generator_of(batch, seed, ids=None if ids is None else ids[part].to(batch.device)),
                targets=None if targets is None else targets[part].to(batch.device),
            )
            attacked.append(found.images)
        result = torch.cat(attacked).to(images.device)
    warn(runner.checks)
    return result


def _check_attacks(attacks: Mapping[str, AttackProtocol]) -> None:
    if not attacks:
        raise InputError("no attacks were given", hint='as in {"pgd": pgd(epsilon="8/255", steps=20, step_size=0.003)}')
    check_attack_names(attacks)
    for name, attack in attacks.items():
        check_attack(attack, what=f"attack {name!r}")


def _check_reachable(targets: Tensor, labels: Tensor, num_classes: int) -> None:
    wrong = (targets < 0) | (targets >= num_classes) | (targets == labels.to(targets.device))
    if bool(wrong.any()):
        where = int(wrong.nonzero()[0])
        raise InputError(
            f"image {where} with label {int(labels[where])} has target {int(targets[where])}; "
            f"another class, 0 to {num_classes - 1}, is expected"
        )


def _attacked(
    runner: Runner,
    name: str,
    attack: AttackProtocol,
    natural: Tensor,
    *,
    number: int,
    rounds: int,
    seed: int,
    keep: Keep | None,
) -> Outcome:
    def compute(part: slice, images: Tensor, labels: Tensor) -> Tensor:
        generator = generator_of(images, seed)
        before = natural[part].to(labels.device)
        found = attack_batch(runner.target, attack, images, labels, generator=generator, before=before)
        if keep is not None:
            keep(name, part, found.images)
        # Distances are measured here, not taken from the attack, whose threat model they check.
        return torch.stack([found.predictions.double(), distances(images, found.images, attack)], dim=1)

    return _outcome(runner, attack, runner.gather(name, 2, compute, number=number, rounds=rounds))


def _outcome(runner: Runner, attack: AttackProtocol | None, rows: Tensor) -> Outcome:
    return Outcome(
        attack=attack,
        labels=runner.labels.cpu(),
        predictions=rows[:, 0].long(),
        distances=None if attack is None else rows[:, 1],
        num_classes=runner.target.num_classes,
        seconds=float(rows[:, -1].sum()),
    )


def _checks(
    runner: Runner, attacks: Mapping[str, AttackProtocol], outcomes: Mapping[str, Outcome], *, seed: int
) -> Iterator[Check]:
    """What can be checked once the attacks have run."""
    target, few, labels = runner.target, runner.few, runner.few_labels
    name = "evaluation mode afterwards"
    still = "still in evaluation mode"
    yield from attempt(name, check_mode, runner.model, target.reference, few, name=name, detail=still)
    for name, attack in attacks.items():
        moved = outcomes[name].distances
        assert moved is not None, "attacks measure distances"
        yield check_within(name, attack, moved)
    yield from attempt("gradients", check_gradients, target, few, labels, attacks.values())
    yield from attempt("epsilon 0", check_epsilon_zero, target, few, labels, attacks, seed=seed)
    for name, attack in attacks.items():
        if isinstance(attack, Attack) and attack.steps > 1:
            title = f"more steps: {name}"
            yield from attempt(title, check_more_steps, target, few, labels, name, attack, seed=seed)

"""A model and images, brought together: checked, in evaluation mode for as long as they are attacked, made fast."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.attack.attack import Attack
from surgery.attack.batches import Batch
from surgery.attack.checks import Check, check_independent, check_logits, check_mode, check_repeatable
from surgery.attack.engine import PLAIN, Engine, Function, Victim, home_of, prepare, truth_of
from surgery.attack.losses import LOSSES
from surgery.attack.modes import evaluating, training_modules
from surgery.attack.norms import NORMS
from surgery.attack.samples import Data, Samples
from surgery.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is attacked. `few` are the images that checks look at, `checks` those of the model without an attack."""

    model: nn.Module
    victim: Victim
    samples: Samples
    num_classes: int
    few: Batch
    checks: tuple[Check, ...]

    def batch(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Images `(batch, channels, height, width)` in [0, 1] and labels `(batch,)`, on the device of the model."""
        return self.samples.between(first, last, self.victim.device)

    def others(self, labels: Tensor) -> Tensor:
        """All classes but the label, `(batch, K - 1)`."""
        return (labels[:, None] + torch.arange(1, self.num_classes, device=labels.device)) % self.num_classes


@contextmanager
def subject_of(
    model: nn.Module,
    data: Data,
    attacks: Iterable[Attack],
    *,
    engine: Engine,
    device: torch.device | str | None,
) -> Iterator[Subject]:
    """Check that model, data and attacks fit, and hold the model in evaluation mode; see `evaluate` for what raises."""
    samples = Samples.of(data)
    if device is not None and torch.device(device) != home_of(model, samples.images)[0]:
        model = copy.deepcopy(model).to(device)
    came = "came in training mode, which comes back" if training_modules(model) else "came in evaluation mode"
    with evaluating(model):
        images, labels = samples.spread(few_of(len(samples)), home_of(model, samples.images)[0])
        truth = truth_of(model, images)
        logits = _logits(model, truth, images)
        num_classes = samples.check_outputs(logits)
        for attack in attacks:
            _check_fits(attack, images, num_classes)
        same = (
            check_mode(model, truth, images, name="evaluation mode", came=came),
            check_repeatable(truth, images),
            check_independent(truth, images),
        )
        # What is not the same function each time cannot be traced: the copy would be another one.
        steady = all(check.passed for check in same)
        yield Subject(
            model=model,
            victim=prepare(model, images, engine=engine if steady else PLAIN),
            samples=samples,
            num_classes=num_classes,
            few=Batch.of(images, labels),
            checks=(*same, check_logits(logits)),
        )


def few_of(count: int) -> int:
    """How many of `count` images the checks look at: they may cost a few per cent."""
    return min(count, max(4, min(32, count // 64)))


def _logits(model: nn.Module, truth: Function, images: Tensor) -> Tensor:
    leaf = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            logits = truth(leaf)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{type(model).__name__} refuses images of shape {tuple(images.shape)}: {reason}") from error
    if not isinstance(logits, Tensor):
        raise InputError(
            f"{type(model).__name__} returns {type(logits).__name__}; logits (batch, classes) are expected"
        )
    if not bool(logits.isfinite().all()):
        raise InputError(f"{type(model).__name__} returns logits that are not finite")
    if not logits.requires_grad or torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is None:
        raise InputError(
            f"the outputs of {type(model).__name__} have no gradient with respect to the images",
            hint="does its forward run under no_grad, or in something else than torch?",
        )
    return logits.detach()


def _check_fits(attack: Attack, images: Tensor, num_classes: int) -> None:
    loss = LOSSES[attack.loss]
    fewest = loss.fewest_classes_targeted if attack.targeted else loss.fewest_classes
    if num_classes < fewest:
        raise InputError(
            f"the {'targeted ' * attack.targeted}loss {attack.loss!r} takes {fewest} classes or more; "
            f"the model has {num_classes}"
        )
    diameter = NORMS[attack.norm].diameter(images[0].numel())
    if attack.epsilon >= diameter:
        raise InputError(
            f"epsilon {attack.epsilon:g} allows any image: black and white are {diameter:g} apart in {attack.norm}",
            hint=f"in units of 1/255? write {attack.epsilon:g}/255",
        )


def check_names(attacks: Mapping[str, Attack]) -> None:
    """Raises InputError where there are no attacks, or one has a name that something else has."""
    if not attacks:
        raise InputError("no attacks were given", hint='as in {"pgd": pgd(epsilon="8/255", steps=20, step_size=0.003)}')
    for name, attack in attacks.items():
        if name in ("natural", "worst case"):
            raise InputError(f"an attack cannot be called {name!r}: that is another outcome")
        if not isinstance(attack, Attack):
            raise InputError(f"attack {name!r} is {type(attack).__name__}, not an Attack", hint="pgd(...) makes one")

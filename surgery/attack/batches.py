"""Running an attack on one batch: every iterate is verified with the reference, and fooled images leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from surgery.attack.interface import AttackProtocol, Iterate
from surgery.attack.random_start import ImageGenerator
from surgery.attack.target import Target
from surgery.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The images that an attack made of a batch, and the classes `(batch,)` that the reference gives them."""

    images: Tensor
    predictions: Tensor


def attack_batch(
    target: Target,
    attack: AttackProtocol,
    images: Tensor,
    labels: Tensor,
    *,
    generator: ImageGenerator,
    targets: Tensor | None = None,
    before: Tensor | None = None,
) -> Found:
    """Attack images `(batch, channels, height, width)` in [0, 1] with labels `(batch,)`.

    `targets` `(batch,)`: the classes that the attack has to reach; None if any class except the label is a success.
    `generator`: random numbers of the images. `before` `(batch,)`: the classes that the reference gives the images, if
    they are known. An attack that consists of several attacks runs each of them with this function.

    A success counts only where the reference, in float32, agrees with it: the surrogate computes in bfloat16, and an
    attack of a user may be wrong. The first success of an image is kept, otherwise its last iterate.

    Raises InputError for an attack that yields something else than images of its rows.
    """

    def fooled(classes: Tensor, rows: Tensor) -> Tensor:
        return (classes != labels[rows]) if targets is None else (classes == targets[rows])

    found = images.clone()
    predictions = target.predict(images) if before is None else before.clone()
    # The numbers in the batch of the images that the attack works on; it sees nothing of the others.
    rows = torch.arange(len(images), device=images.device)
    if getattr(attack, "early_stop", True):
        rows = rows[~fooled(predictions, rows)]
    if len(rows) == 0:
        return Found(images=found, predictions=predictions)
    aimed = {} if targets is None else {"targets": targets[rows]}
    with torch.enable_grad():
        result: Any = attack(target, images[rows], labels[rows], generator[rows], **aimed)
    iterates: Any = iter([result]) if isinstance(result, (Tensor, Iterate)) else result
    if not isinstance(iterates, Iterator):
        raise InputError(
            f"the attack {type(attack).__name__} returned {type(result).__name__}",
            hint="images (batch, channels, height, width), or an iterator of them, are expected",
        )
    standing, unverified = torch.ones_like(rows, dtype=torch.bool), False
    told: Tensor | None = None
    # `told` is None first: a generator cannot receive a value before its first yield.
    while (iterate := _next(iterates, told)) is not None:
        rows, standing = _match(iterate.images, rows, standing, images, attack)
        # The reference is a second network in float32; asking it about suspects only costs little where few are fooled.
        unverified = iterate.logits is not None
        suspects = standing if iterate.logits is None else standing & fooled(iterate.logits.argmax(1), rows)
        found[rows[standing]] = iterate.images[standing].detach().to(found)
        asked = rows[suspects]
        if len(asked):
            predictions[asked] = target.predict(found[asked])
            standing = standing & ~torch.isin(rows, asked[fooled(predictions[asked], asked)])
        if not bool(standing.any()):
            break
        told = standing
    # Frees what the attack holds, as the graph of its last forward pass.
    close = getattr(iterates, "close", None)
    if close is not None:
        close()
    if unverified and bool(standing.any()):
        # The surrogate takes these for right in their last iterate; the reference has not been asked about it.
        predictions[rows[standing]] = target.predict(found[rows[standing]])
    return Found(images=found, predictions=predictions)


def _next(iterates: Any, told: Tensor | None) -> Iterate | None:
    """The next iterate, or None after the last; a generator is told which images stand, another iterator is not."""
    try:
        # Attacks may be run where the caller has switched gradients off; the surrogate records them where it is asked.
        with torch.enable_grad():
            value = iterates.send(told) if told is not None and hasattr(iterates, "send") else next(iterates)
    except StopIteration:
        return None
    return value if isinstance(value, Iterate) else Iterate(images=value)


def _match(
    iterate: Any, rows: Tensor, standing: Tensor, images: Tensor, attack: AttackProtocol
) -> tuple[Tensor, Tensor]:
    """The rows that an iterate is of and which of them stand: as many as before, or those that still stand.

    Where no image has left the two are the same, so the number of rows decides.
    """
    shape = tuple(iterate.shape) if isinstance(iterate, Tensor) else type(iterate).__name__
    left = int(standing.sum())
    if isinstance(iterate, Tensor) and iterate.is_floating_point() and iterate.shape[1:] == images.shape[1:]:
        if len(iterate) == len(rows):
            return rows, standing
        if len(iterate) == left:
            return rows[standing], standing[standing]
    sizes = tuple(images.shape[1:])
    raise InputError(
        f"the attack {type(attack).__name__} yielded {shape}; expected floating-point images of shape "
        f"{(len(rows), *sizes)}" + (f", or {(left, *sizes)} for those that stand" if left < len(rows) else "")
    )

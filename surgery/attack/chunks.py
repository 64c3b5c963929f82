"""The runner of an evaluation: goes through the images chunk by chunk, keeps finished chunks, reports progress."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from surgery.attack.checks import Check, attempt, check_independent, check_logits, check_mode, check_repeatable
from surgery.attack.engine import PLAIN, Engine, home_of
from surgery.attack.interface import AttackProtocol
from surgery.attack.losses import LOSSES
from surgery.attack.norms import NORMS
from surgery.attack.parsing import pixels_text
from surgery.attack.samples import Data, as_floats, check_classes, images_and_labels
from surgery.attack.target import Target, prepare, training_modules
from surgery.errors import InputError
from surgery.torch_state import evaluation_mode, torch_state

BATCH = 128
"""The default number of images in a chunk; results do not depend on it."""

Progress = Callable[[int, int], None]
"""Called with the number of images that are done and their total, over all attacks."""

Compute = Callable[[slice, Tensor, Tensor], Tensor]
"""The numbers of the images of a chunk, these images and their labels, to results `(batch, columns)`."""


class Chunks(Protocol):
    """Where finished chunks are kept, so that an interrupted evaluation resumes after the last one.

    A key names the attack and the first and last images; a chunk is a float64 tensor, a row an image, the last column
    the seconds that it took. The caller keeps chunks apart that are of another model, data, attack or seed.
    """

    def load(self, key: str) -> Tensor | None: ...

    def save(self, key: str, chunk: Tensor) -> None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Runner:
    """A target and the images to attack it with, `size` at a time.

    `images` `(n, channels, height, width)` and `labels` `(n,)` are as they were given; chunks come in float32 on the
    device of the target. `few`, `few_labels`: the images that the checks use. `checks`: those of the model without an
    attack.
    """

    model: nn.Module
    target: Target
    images: Tensor
    labels: Tensor
    few: Tensor
    few_labels: Tensor
    checks: tuple[Check, ...]
    size: int
    chunks: Chunks | None
    progress: Progress | None

    def parts(self) -> list[slice]:
        """The numbers of the images of each chunk, in order."""
        count = len(self.labels)
        return [slice(first, min(first + self.size, count)) for first in range(0, count, self.size)]

    def batch(self, part: slice) -> tuple[Tensor, Tensor]:
        """The images of a chunk, float32 in [0, 1], and their labels, on the device of the target."""
        return _taken(self.images, self.labels, part, self.target.device)

    def gather(self, name: str, columns: int, compute: Compute, *, number: int = 0, rounds: int = 0) -> Tensor:
        """The results of all chunks and the seconds of each image, `(n, columns + 1)`, float64.

        `compute` is called for the chunks that are not kept. `number`: which of the `rounds` over all images this is;
        progress is reported if there are any.
        """
        results, count = [], len(self.labels)
        for part in self.parts():
            key = f"{name}/{part.start}-{part.stop - 1}"
            chunk = None if self.chunks is None else self.chunks.load(key)
            if chunk is None:
                start = time.perf_counter()
                # float64 holds classes, distances and seconds exactly, in one tensor that any store can keep.
                values = compute(part, *self.batch(part)).double().cpu()
                # Per image, so that the time of an evaluation that was resumed is the sum over its chunks as well.
                seconds = torch.full_like(values[:, :1], (time.perf_counter() - start) / len(values))
                chunk = torch.cat([values, seconds], dim=1)
                if self.chunks is not None:
                    self.chunks.save(key, chunk)
            shape = (part.stop - part.start, columns + 1)
            if chunk.shape != shape:
                raise InputError(f"the kept chunk {key!r}: expected the shape {shape}, got {tuple(chunk.shape)}")
            results.append(chunk)
            if self.progress is not None and rounds:
                self.progress(number * count + part.stop, rounds * count)
        return torch.cat(results)


@contextmanager
def runner_of(
    model: nn.Module,
    data: Data,
    attacks: Iterable[AttackProtocol],
    *,
    engine: Engine | None,
    device: torch.device | str | None,
    batch_size: int,
    chunks: Chunks | None = None,
    progress: Progress | None = None,
) -> Iterator[Runner]:
    """Check that model, data and attacks fit, and hold the model in evaluation mode; see `evaluate` for the errors."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: expected a whole number of at least 1, got {batch_size!r}")
    images, labels = images_and_labels(data)
    attacks = tuple(attacks)
    if device is not None and torch.device(device) != home_of(model, images)[0]:
        # `to` moves a module in place; the caller's model stays where it is.
        model = copy.deepcopy(model).to(device)
    found = "came in training mode, which comes back" if training_modules(model) else "came in evaluation mode"
    with torch_state(gradients=True), evaluation_mode(model):
        if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
            model = copy.deepcopy(model)  # made in inference mode: torch computes no gradients through these tensors
        # Evenly spread, as the images of a class may follow one another; so many that checks cost a few per cent.
        fewest = min(len(labels), max(4, min(32, len(labels) // 64)))
        numbers = torch.linspace(0, len(labels) - 1, fewest).round().long().to(labels.device)
        few, few_labels = _taken(images, labels, numbers, home_of(model, images)[0])
        # One target for all attacks: it has gradients that are verified if one of them uses gradients.
        gradients = any(getattr(attack, "uses_gradients", True) for attack in attacks)
        target = prepare(model, few, engine=PLAIN, gradients=gradients)
        check_classes(data, labels, target.num_classes)
        for attack in attacks:
            _check_fits(attack, few, target.num_classes)
        reference, name = target.reference, "evaluation mode"
        same = (
            *attempt(name, check_mode, model, reference, few, name=name, detail=found),
            *attempt("repeatable forward", check_repeatable, reference, few),
            *attempt("independent images", check_independent, reference, few),
        )
        # A trace is one function; of a model that is another function each time it would be a wrong copy.
        if all(check.passed for check in same):
            target = prepare(model, few, engine=engine or Engine(), gradients=gradients)
        yield Runner(
            model=model,
            target=target,
            images=images,
            labels=labels,
            few=few,
            few_labels=few_labels,
            checks=(*same, check_logits(target.logits(few))),
            size=batch_size,
            chunks=chunks,
            progress=progress,
        )


def _taken(images: Tensor, labels: Tensor, numbers: slice | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Some of the images `(batch, ...)`, as float32 in [0, 1], and their labels, on `device`."""
    images = as_floats(images[numbers].to(device))
    # Images that were made in inference mode can have no gradient.
    return images.clone() if images.is_inference() else images, labels[numbers].to(device)


def _check_fits(attack: AttackProtocol, images: Tensor, num_classes: int) -> None:
    loss = LOSSES.get(getattr(attack, "loss", ""))
    targeted = bool(getattr(attack, "targeted", False))
    fewest = 2 if loss is None else loss.fewest_classes_targeted if targeted else loss.fewest_classes
    if num_classes < fewest:
        raise InputError(
            f"the {'targeted ' * targeted}loss {getattr(attack, 'loss', '')!r} takes {fewest} classes or more; "
            f"the model has {num_classes}"
        )
    # With such an epsilon every image may become any other one, and a robust accuracy says nothing.
    diameter = NORMS[attack.norm].diameter(images[0].numel())
    if attack.epsilon >= diameter:
        raise InputError(
            f"epsilon {pixels_text(attack.epsilon)} allows any image: black and white are {diameter:g} apart in "
            f"{attack.norm}",
            hint=f"in units of 1/255? write {attack.epsilon:g}/255",
        )

"""The model under attack: the reference in float32, which decides, and the fast surrogate, on which attacks search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.attack.engine import Engine, Function, home_of, reference_of, surrogate_of
from surgery.errors import InputError
from surgery.plugins import users_frame


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A model under attack, in evaluation mode; `images` are `(batch, channels, height, width)` in [0, 1].

    `reference`: the model itself in float32. Only what it says counts: a success on a surrogate in bfloat16 may be a
    rounding error. `surrogate`: a fast function with almost the same logits and gradients, on which attacks search; it
    records gradients where `images.requires_grad`. `notes`: what the surrogate is, and which faster ones were rejected.

    An attack reaches the model through a target only, so that queries and gradients can be counted.
    """

    reference: Function
    surrogate: Function
    device: torch.device
    num_classes: int
    notes: tuple[str, ...]

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The logits `(batch, K)` of the reference, without gradients."""
        return self.reference(images)

    def predict(self, images: Tensor) -> Tensor:
        """The classes `(batch,)` that the reference gives to the images."""
        return self.logits(images).argmax(1)

    def gradient(self, losses: Tensor, images: Tensor) -> Tensor:
        """The gradient of each loss `(batch,)` with respect to its image; `losses` come from `surrogate(images)`."""
        return gradient_of(losses, images)

    def others(self, labels: Tensor) -> Tensor:
        """All classes but the label, `(batch, K - 1)`, in the order label + 1, label + 2, ..."""
        return (labels[:, None] + torch.arange(1, self.num_classes, device=labels.device)) % self.num_classes


def gradient_of(losses: Tensor, images: Tensor) -> Tensor:
    """The gradient of each loss `(batch,)` with respect to its image."""
    with torch.enable_grad():
        # Each loss depends on one image only, so the gradient of the sum holds the gradient of every loss.
        total = losses.sum()
    return torch.autograd.grad(total, images)[0]


def prepare(model: nn.Module, examples: Tensor, *, engine: Engine, gradients: bool = True) -> Target:
    """Make the target of a model that is in evaluation mode.

    `examples`: a few images on the device of the model. A surrogate that does not agree with the model on them, in
    logits and, with `gradients`, in gradients, is rejected, and the notes say so.

    Raises InputError for a model that refuses the images or whose outputs are no logits, and, with `gradients`, for one
    without gradients with respect to the images.
    """
    name = type(model).__name__
    reference = reference_of(model, examples)
    # One forward pass on a few images finds what would otherwise fail in the middle of an attack, without its cause.
    leaf = examples.detach().clone().requires_grad_()
    try:
        logits = reference(leaf)
    except (RuntimeError, ValueError) as error:
        reason, frame = next(iter(str(error).splitlines()), ""), users_frame(error)
        place = "" if frame is None else f" ({frame.filename}:{frame.lineno})"
        raise InputError(f"{name} refuses images of shape {tuple(examples.shape)}: {reason}{place}") from error
    if not isinstance(logits, Tensor):
        raise InputError(f"{name}: expected logits (batch, classes), got {type(logits).__name__}")
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise InputError(f"{name}: expected outputs of shape (batch, classes), got {tuple(logits.shape)}")
    if not bool(logits.isfinite().all()):
        raise InputError(f"{name} returns logits that are not finite")
    if gradients and (
        not logits.requires_grad or torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is None
    ):
        raise InputError(
            f"the outputs of {name} have no gradient with respect to the images",
            hint="does its forward run under no_grad, or outside of torch?",
        )
    surrogate, notes = surrogate_of(model, reference, examples, engine=engine, gradients=gradients)
    device, _ = home_of(model, examples)
    return Target(reference=reference, surrogate=surrogate, device=device, num_classes=logits.shape[1], notes=notes)


def training_modules(model: nn.Module) -> list[str]:
    """The paths of the modules that are in training mode now; the model itself is `the model`."""
    return [name or "the model" for name, module in model.named_modules() if module.training]


@torch.no_grad()
def training_during(model: nn.Module, forward: Callable[[], object]) -> list[str]:
    """The paths of the modules that are in training mode when `forward`, a forward of `model`, reaches them."""
    seen: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _, name=name: seen.append(name) if module.training else None)
        for name, module in model.named_modules()
    ]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(name or "the model" for name in seen))

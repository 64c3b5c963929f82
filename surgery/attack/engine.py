"""The fast surrogate of a model that a search runs on: a traced copy with batch norm folded, channels last, bfloat16.

The model itself is not changed. What a search finds on the surrogate counts only where the model itself, in float32,
agrees: a surrogate can miss an adversarial image, which makes the accuracy too high by a little and is measured in the
tests, but it cannot report one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from surgery.errors import InputError, SurgeryError, suggest
from surgery.graph import Graph, operation_name, trace
from surgery.rewrite import apply, plan

Precision = Literal["auto", "bfloat16", "float32"]
PRECISIONS: tuple[str, ...] = ("auto", "bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How the surrogate of a search is made; with everything off (`PLAIN`) the search runs on the model itself.

    `precision`: the arithmetic of the search; `auto` takes bfloat16 where the processor multiplies it natively. `fold`:
    batch norm is multiplied into convolutions by the ruleset `fold-batch-norm`. `channels_last`: the memory format.
    """

    precision: Precision = "auto"
    fold: bool = True
    channels_last: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            hint = suggest(str(self.precision), PRECISIONS)
            raise InputError(f"expected a precision of {', '.join(PRECISIONS)}, got {self.precision!r}", hint=hint)


PLAIN = Engine(precision="float32", fold=False, channels_last=False)
"""The search runs on the model itself, in float32."""


Function = Callable[[Tensor], Tensor]
"""Float32 images `(batch, channels, height, width)` to float32 logits `(batch, K)`."""


def surrogate_of(
    model: nn.Module, reference: Function, examples: Tensor, *, engine: Engine, gradients: bool = True
) -> tuple[Function, tuple[str, ...]]:
    """Return the fastest function that a search may use instead of `reference`, and notes on what was tried.

    `model` is in evaluation mode. A copy of it has to agree with the reference on `examples`
    `(batch, channels, height, width)` in [0, 1], in logits and, with `gradients`, in gradients. Where no copy does, the
    reference is returned.
    """
    notes: list[str] = []
    for name, allowed, build in _ladder(model, examples, engine):
        try:
            surrogate = _of_images_only(build())
            fault = _fault(surrogate, reference, examples, allowed, gradients=gradients)
        except (SurgeryError, RuntimeError, TypeError, ValueError) as error:
            surrogate, fault = reference, str(error).splitlines()[0]
        if fault is None:
            return surrogate, (*notes, f"searched on {name}")
        notes.append(f"not searched on {name}: {fault}")
    return reference, (*notes, "searched on the model itself in float32")


def home_of(model: nn.Module, images: Tensor) -> tuple[torch.device, torch.dtype]:
    """The device and the floating dtype of a model; the device of the images and float32 if it has no tensors."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return images.device, torch.float32


def reference_of(model: nn.Module, examples: Tensor) -> Function:
    """The model itself, in the precision of its parameters, without autocast; it decides whether an image is fooled."""
    device, dtype = home_of(model, examples)

    def run(images: Tensor) -> Tensor:
        # The caller may be under autocast; the reference is float32 whatever surrounds it.
        with torch.autocast(device.type, enabled=False):
            logits = model(images.to(dtype))
            return logits.float() if isinstance(logits, Tensor) else logits

    return _of_images_only(run)


def _of_images_only(function: Function) -> Function:
    """Record a graph only where the images ask for gradients: the parameters of a model do as well, for training."""

    def run(images: Tensor) -> Tensor:
        with torch.set_grad_enabled(images.requires_grad):
            return function(images)

    return run


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; emulated bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """How far a copy may be off: its logits relative to the largest one, its gradients as one minus their cosine."""

    logits: float
    gradients: float


FLOAT32 = Allowed(logits=1e-3, gradients=1e-2)
"""Sums in another order, and a few activations at a kink."""
BFLOAT16 = Allowed(logits=0.1, gradients=0.3)
"""bfloat16 has 8 bits of precision; after twenty layers the logits are off by about a hundredth."""


_Rung = tuple[str, Allowed, Callable[[], Function]]


def _ladder(model: nn.Module, examples: Tensor, engine: Engine) -> Iterator[_Rung]:
    """The candidates for the surrogate, fastest first: name, allowed error, and how it is built."""
    if engine == PLAIN:
        return
    device, dtype = home_of(model, examples)
    fast = engine.precision == "bfloat16" or (engine.precision == "auto" and computes_bfloat16(device))
    copied = "a traced copy with batch norm folded" if engine.fold else "a traced copy"
    # bfloat16 keeps the exponent of float32, so gradients do not underflow and no loss scaling is needed.
    if fast:
        yield f"{copied} in bfloat16", BFLOAT16, lambda: _copied(model, examples, engine, torch.bfloat16)
    yield f"{copied} in float32", FLOAT32, lambda: _copied(model, examples, engine, None)
    # A model that cannot be traced still gains from bfloat16 under autocast.
    if fast:
        yield (
            "the model itself in bfloat16",
            BFLOAT16,
            lambda: _autocast(lambda images: model(images.to(dtype)), device),
        )


def _copied(model: nn.Module, examples: Tensor, engine: Engine, dtype: torch.dtype | None) -> Function:
    # One image: the batch dimension of a graph is free, and the shapes of all layers are known from it.
    graph = trace(model, examples[:1].to(home_of(model, examples)[1]))
    if engine.fold:
        graph = apply(plan(graph, "fold-batch-norm")).module
    # Without gradients of its parameters a backward pass computes the gradient of the image only, about half the work.
    graph = graph.float().requires_grad_(False)
    # Convolutions compute in NHWC on CPUs and tensor cores; other formats are converted in every layer.
    if engine.channels_last and examples.dim() == 4:
        graph = graph.to(memory_format=torch.channels_last)
    if dtype is None:
        return graph
    _convert_weights(graph, dtype)
    return _autocast(graph, examples.device)


def _convert_weights(graph: Graph, dtype: torch.dtype) -> None:
    """Convert weights that only convolutions and linear layers read; autocast would convert them in every forward.

    Other parameters stay in float32, in which autocast runs the operations that read them.
    """
    readers: dict[str, set[str]] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            readers.setdefault(str(node.target), set()).update(operation_name(user) for user in node.users)
    for path, tensor in graph.tensors().items():
        if all(name == "linear" or name.startswith("conv") for name in readers[path]):
            tensor.data = tensor.data.to(dtype)


def _autocast(function: Function, device: torch.device) -> Function:
    def run(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return function(images).float()

    return run


def _fault(
    surrogate: Function, reference: Function, examples: Tensor, allowed: Allowed, *, gradients: bool
) -> str | None:
    """How logits or gradients of the surrogate differ from the reference on the examples; None where they agree."""
    expected, expected_gradient = _margins(reference, examples, None, gradients=gradients)
    found, gradient = _margins(surrogate, examples, expected, gradients=gradients)
    off = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not off <= allowed.logits:
        return f"its logits are off by {off:.2g} of the largest"
    # Logits that agree are not enough: a straight-through estimator is lost in a trace, and with it the gradient.
    cosine = float(torch.cosine_similarity(gradient.flatten(1), expected_gradient.flatten(1)).mean())
    if gradients and not cosine >= 1.0 - allowed.gradients:
        return f"the cosine of its gradients and those of the model is {cosine:.2g}"
    return None


def _margins(function: Function, images: Tensor, reference: Tensor | None, *, gradients: bool) -> tuple[Tensor, Tensor]:
    """Logits, and the gradients of the largest logit of the reference (default: its own) less the second one.

    Without `gradients` the second is zero.
    """
    leaf = images.detach().clone().requires_grad_(gradients)
    if not gradients:
        return function(leaf), torch.zeros_like(leaf)
    with torch.enable_grad():
        logits = function(leaf)
        first, second = (logits if reference is None else reference).topk(2, dim=1).indices.T
        margins = logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])
        [gradient] = torch.autograd.grad(margins.sum(), leaf)
    # Divided by the largest entry: the direction is compared, and squares of small gradients are zero in float32.
    return logits.detach(), gradient / gradient.flatten(1).abs().amax().clamp_min(1e-30)

"""How the search is made fast: a traced copy with batch norm folded, channels last, bfloat16. The model stays as it is.

What the search finds is verified on the model itself in float32, so a fast copy can only miss something.
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
    """What may be done to be fast; each can be turned off, and with all of them off the model itself is searched.

    `precision`: of the search; `auto` is bfloat16 where the processor computes with it. `fold`: batch norm is
    multiplied into convolutions by the ruleset `fold-batch-norm`. `channels_last`: the memory format.
    """

    precision: Precision = "auto"
    fold: bool = True
    channels_last: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            hint = suggest(str(self.precision), PRECISIONS) or f"known are {', '.join(PRECISIONS)}"
            raise InputError(f"precision is {self.precision!r}, which is none of the search's", hint=hint)


PLAIN = Engine(precision="float32", fold=False, channels_last=False)
"""The model as it is, in float32."""


Function = Callable[[Tensor], Tensor]
"""Float32 images `(batch, channels, height, width)` to float32 logits `(batch, K)`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Victim:
    """A model under attack: `quick` for the search, `truth`, the model itself in float32, for what counts.

    Both have gradients with respect to the images. `notes` say what the search runs on and why.
    """

    truth: Function
    quick: Function
    device: torch.device
    notes: tuple[str, ...]

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The logits `(batch, K)` of the model itself."""
        return self.truth(images)

    def predict(self, images: Tensor) -> Tensor:
        """The classes `(batch,)` that the model itself gives to the images."""
        return self.logits(images).argmax(1)


def prepare(model: nn.Module, examples: Tensor, *, engine: Engine) -> Victim:
    """Make `model`, which is in evaluation mode, ready to be attacked.

    `examples` are a few images `(batch, channels, height, width)` in [0, 1] on the device of the model; a fast copy has
    to agree with the model on them, or it is not used and the notes say so.
    """
    device, _ = home_of(model, examples)
    truth = truth_of(model, examples)
    notes: list[str] = []
    for name, allowed, build in _ladder(model, examples, engine):
        try:
            quick = build()
            fault = _fault(quick, truth, examples, allowed)
        except (SurgeryError, RuntimeError, TypeError, ValueError) as error:
            quick, fault = truth, str(error).splitlines()[0]
        if fault is None:
            notes.append(f"searched on {name}")
            return Victim(truth=truth, quick=quick, device=device, notes=tuple(notes))
        notes.append(f"not searched on {name}: {fault}")
    notes.append("searched on the model itself in float32")
    return Victim(truth=truth, quick=truth, device=device, notes=tuple(notes))


def home_of(model: nn.Module, images: Tensor) -> tuple[torch.device, torch.dtype]:
    """The device and the floating dtype of a model; where it has no tensors, the device of the images and float32."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return images.device, torch.float32


def truth_of(model: nn.Module, examples: Tensor) -> Function:
    """The model itself, in the precision of its parameters, without autocast."""
    device, dtype = home_of(model, examples)

    def run(images: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            logits = model(images.to(dtype))
            return logits.float() if isinstance(logits, Tensor) else logits

    return run


def computes_bfloat16(device: torch.device) -> bool:
    """True where the device multiplies bfloat16 natively; emulated it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """How far a copy may be off: its logits as a share of the largest one, its gradients as one less their cosine."""

    logits: float
    gradients: float


FLOAT32 = Allowed(logits=1e-3, gradients=1e-2)
"""Sums in another order, and a few activations that stand at a kink; no more."""
BFLOAT16 = Allowed(logits=0.1, gradients=0.3)
"""The 8 bits of bfloat16 leave about a hundredth of the logits after twenty layers."""


_Rung = tuple[str, Allowed, Callable[[], Function]]


def _ladder(model: nn.Module, examples: Tensor, engine: Engine) -> Iterator[_Rung]:
    """What can be searched on, fastest first: a name, how far its logits may be off, and how it is built."""
    if engine == PLAIN:
        return
    device, dtype = home_of(model, examples)
    fast = engine.precision == "bfloat16" or (engine.precision == "auto" and computes_bfloat16(device))
    copied = "a traced copy with batch norm folded" if engine.fold else "a traced copy"
    if fast:
        yield f"{copied} in bfloat16", BFLOAT16, lambda: _copied(model, examples, engine, torch.bfloat16)
    yield f"{copied} in float32", FLOAT32, lambda: _copied(model, examples, engine, None)
    if fast:
        yield "the model itself in bfloat16", BFLOAT16, lambda: _autocast(_typed(model, dtype), device)


def _copied(model: nn.Module, examples: Tensor, engine: Engine, dtype: torch.dtype | None) -> Function:
    graph = trace(model, examples[:1])
    if engine.fold:
        graph = apply(plan(graph, "fold-batch-norm")).module
    graph = graph.float().requires_grad_(False)
    if engine.channels_last and examples.dim() == 4:
        graph = graph.to(memory_format=torch.channels_last)
    if dtype is None:
        return graph
    _convert_weights(graph, dtype)
    return _autocast(graph, examples.device)


def _convert_weights(graph: Graph, dtype: torch.dtype) -> None:
    """Convert what only convolutions and linear layers read; autocast would do so again in every forward."""
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


def _typed(model: nn.Module, dtype: torch.dtype) -> Function:
    return lambda images: model(images.to(dtype))


def _fault(quick: Function, truth: Function, examples: Tensor, allowed: Allowed) -> str | None:
    """How logits or gradients of `quick` differ from the truth on the examples, or None where they do not."""
    expected, expected_gradient = _margins(truth, examples, None)
    found, gradient = _margins(quick, examples, expected)
    off = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not off <= allowed.logits:
        return f"its logits are off by {off:.2g} of the largest"
    cosine = float(torch.cosine_similarity(gradient.flatten(1), expected_gradient.flatten(1)).mean())
    if not cosine >= 1.0 - allowed.gradients:
        return f"the cosine of its gradients and those of the model is {cosine:.2g}"
    return None


def _margins(function: Function, images: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits, and the gradients of the largest logit of the reference (default: its own) less the second one."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = function(leaf)
        first, second = (logits if reference is None else reference).topk(2, dim=1).indices.T
        margins = logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])
        [gradient] = torch.autograd.grad(margins.sum(), leaf)
    # Divided by the largest entry: the cosine is to be of the direction, however small the gradient is.
    return logits.detach(), gradient / gradient.flatten(1).abs().amax().clamp_min(1e-30)

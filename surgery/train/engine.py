"""How training computes: precision, memory format, folding and compilation, chosen by the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from surgery.attack.engine import PRECISIONS, Precision, computes_bfloat16
from surgery.errors import InputError, suggest

COMPILE_FROM = 2000
"""Steps of training from which on a GPU compiling is worth the minute or two that it takes."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How training computes; what is trained is in the `TrainingConfig`. Each choice can be fixed by the caller.

    `precision`: of the network, by autocast; losses, weights and batch statistics stay in float32. `auto` is bfloat16
    where the processor computes with it. `fold`: batch norm is multiplied into the layers before it while images are
    attacked. `channels_last`: the memory format of images and weights. `compile`: torch.compile, with CUDA graphs; None
    compiles long runs on one GPU. On two cores with bfloat16 instructions, autocast halves the time of a step; channels
    last and folding save a tenth each, or a quarter in narrow networks; compiling takes a minute and saves nothing.
    Networks in float64 are trained in float64, and networks whose training crashes torch in channels last (see
    `crashes_in_channels_last`) without it.

    Raises InputError for an unknown precision.
    """

    precision: Precision = "auto"
    fold: bool = True
    channels_last: bool = True
    compile: bool | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            hint = suggest(str(self.precision), PRECISIONS)
            raise InputError(f"expected a precision of {', '.join(PRECISIONS)}, got {self.precision!r}", hint=hint)

    def on(self, device: torch.device, *, steps: int, processes: int, dtype: torch.dtype = torch.float32) -> Engine:
        """The engine with every choice made, for a run of so many steps on `device` of a network in `dtype`.

        Raises InputError for bfloat16 with a network in float64, which autocast does not convert.
        """
        if dtype == torch.float64 and self.precision == "bfloat16":
            raise InputError("the network is in float64, which autocast does not convert", hint="precision = 'float32'")
        fast = self.precision == "bfloat16" or (
            self.precision == "auto" and dtype != torch.float64 and computes_bfloat16(device)
        )
        # Only in a single process: compiling the sums inside a shared batch norm is untested.
        pays = device.type == "cuda" and processes == 1 and steps >= COMPILE_FROM
        return replace(
            self,
            precision="bfloat16" if fast else "float32",
            compile=pays if self.compile is None else self.compile,
        )

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of autocast, None without autocast."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which the network runs on `device`."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.dtype is not None)

    def __str__(self) -> str:
        words = ["bfloat16 autocast" if self.precision == "bfloat16" else self.precision]
        words += ["channels last"] * self.channels_last + ["compiled"] * bool(self.compile)
        return ", ".join(words)


PLAIN = Engine(precision="float32", fold=False, channels_last=False, compile=False)
"""The network as it is, in its own precision."""


def find_device(device: torch.device | str | None) -> torch.device:
    """The device to train on: the given one, or by default a GPU if there is one; raises InputError if it is absent."""
    try:
        found = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
        torch.zeros(1, device=found)  # a name can be valid without a device behind it
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!s} cannot be used: {str(error).splitlines()[0]}") from error
    return found


@torch.no_grad()
def crashes_in_channels_last(network: nn.Module, images: Tensor) -> bool:
    """Whether the weight gradient of a convolution of `network` crashes the process in the format channels last.

    torch 2.14 writes outside of its memory on CPUs, if the work is divided among several threads, for kernels of one
    pixel with a stride and fewer than 16 input channels, such as the shortcuts of a ResNet of width 8. `images`: a few,
    which the network is run on to see its convolutions.
    """
    if images.device.type != "cpu" or torch.get_num_threads() == 1:
        return False
    with _Convolutions() as found:
        network(images)
    return any(max(shape[2:]) == 1 and shape[1] < _SAFE_CHANNELS and max(stride) > 1 for shape, stride in found.weights)


_SAFE_CHANNELS = 16
"""Input channels from which on no crash was seen: as many floats as an AVX-512 register holds."""


class _Convolutions(TorchDispatchMode):
    """Records the shape of the weight and the stride of every convolution that runs in the block.

    Modules would not show them all: a network may call `functional.conv2d`, and a graph has no modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[tuple[torch.Size, Sequence[int]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.weights.append((args[1].shape, args[3]))
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A network as it is called in training: compiled or as written; `note` says why compiling failed, if it did."""

    network: nn.Module
    engine: Engine
    note: str | None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `(batch, K)` in float32 at least, which losses need: autocast leaves them in bfloat16."""
        with self.engine.autocast(images.device):
            logits = self.network(images)
        return logits if logits.dtype == torch.float64 else logits.float()

    def begin_pass(self, device: torch.device) -> None:
        """Release the outputs of earlier passes: CUDA graphs write the next ones into the same memory."""
        if self.engine.compile and device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()


def runner(network: nn.Module, batch: Tensor, engine: Engine) -> Runner:
    """`network`, compiled for batches of the size of `batch` where the engine says so, and tried with that batch.

    A network that cannot be compiled runs as written.
    """
    if not engine.compile:
        return Runner(network=network, engine=engine, note=None)
    attempt = Runner(network=_Compiled(network, len(batch)), engine=engine, note=None)
    # The gradients that training asks for: of the parameters, or of the images where an attack runs the network.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    images = batch.detach().requires_grad_(not trained)
    try:
        with buffers_kept(network):
            attempt.begin_pass(batch.device)
            torch.autograd.grad(attempt(images).sum(), trained or [images], allow_unused=True)
    except Exception as error:  # of any kind, from the compiler: the network itself has run before
        note = f"not compiled: {type(error).__name__}: {str(error).splitlines()[0]}"
        return Runner(network=network, engine=engine, note=note)
    return attempt


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Restore the buffers of `network` (the statistics of batch norm) at the end of the block."""
    saved = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(network.buffers(), saved, strict=True):
                buffer.copy_(old)


class _Compiled(nn.Module):
    """Batches of one size run compiled; any other batch (the last of an epoch) runs as written."""

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        # CUDA graphs, for the kernels of a 32-pixel network take less time than launching them.
        self.run: Any = torch.compile(network, mode="reduce-overhead", dynamic=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images) if len(images) == self.batch_size else self.network(images)

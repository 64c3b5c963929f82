"""How training computes: precision, memory format, folding and compilation, by what helps on the device at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from surgery.attack.engine import PRECISIONS, Precision, computes_bfloat16
from surgery.errors import InputError, suggest

COMPILE_FROM = 2000
"""Steps of training from which compiling on a GPU is worth its minute or two."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How training computes, which is no part of what is trained; each can be fixed by the caller.

    `precision`: of the network, by autocast; losses, weights and batch statistics stay in float32. `auto` is bfloat16
    where the processor computes with it. `fold`: batch norm is multiplied into the layers before it while images are
    attacked. `channels_last`: the memory format of images and weights. `compile`: torch.compile, with CUDA graphs; None
    compiles long runs on one GPU. On two cores with bfloat16 instructions, autocast halves the time of a step, channels
    last and folding take a tenth off each, or a quarter in narrow networks; compiling takes a minute and gives nothing.
    """

    precision: Precision = "auto"
    fold: bool = True
    channels_last: bool = True
    compile: bool | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            hint = suggest(str(self.precision), PRECISIONS) or f"known are {', '.join(PRECISIONS)}"
            raise InputError(f"precision is {self.precision!r}, which training does not know", hint=hint)

    def on(self, device: torch.device, *, steps: int, processes: int) -> Engine:
        """The engine with nothing left to choose, for a run of so many steps on `device`."""
        fast = self.precision == "bfloat16" or (self.precision == "auto" and computes_bfloat16(device))
        pays = device.type == "cuda" and processes == 1 and steps >= COMPILE_FROM
        return replace(
            self,
            precision="bfloat16" if fast else "float32",
            compile=pays if self.compile is None else self.compile,
        )

    @property
    def dtype(self) -> torch.dtype | None:
        """What autocast computes in, None where there is none."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def autocast(self, device: torch.device) -> torch.autocast:
        """What the network runs under on `device`."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.dtype is not None)

    def __str__(self) -> str:
        words = ["bfloat16 autocast" if self.precision == "bfloat16" else self.precision]
        words += ["channels last"] * self.channels_last + ["compiled"] * bool(self.compile)
        return ", ".join(words)


PLAIN = Engine(precision="float32", fold=False, channels_last=False, compile=False)
"""The network as it is, in its own precision."""


def find_device(device: torch.device | str | None) -> torch.device:
    """The device to train on: the one named, by default a GPU where there is one; raises InputError where it is not."""
    try:
        found = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!s} cannot be used: {str(error).splitlines()[0]}") from error
    return found

"""torch.compile for the batches that all have one size; any other batch runs as written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.train.awp import buffers_kept
from surgery.train.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is called in the place of a network, and whether compiling it failed, and why."""

    network: nn.Module
    note: str | None = None


def runnable(network: nn.Module, batch: Tensor, engine: Engine) -> Run:
    """`network`, compiled for batches of the size of `batch` where the engine says so, and tried with that batch.

    A network that cannot be compiled runs as written, and the note says so.
    """
    if not engine.compile:
        return Run(network=network)
    attempt = _Compiled(network, len(batch))
    try:
        with buffers_kept(network):
            _try(attempt, batch, engine)
    except Exception as error:  # whatever the compiler raises: the network itself has run before
        return Run(network=network, note=f"not compiled: {type(error).__name__}: {str(error).splitlines()[0]}")
    return Run(network=attempt)


def begin_pass(engine: Engine, device: torch.device) -> None:
    """Say that what compiled networks returned before is not needed any more; CUDA graphs reuse its memory."""
    if engine.compile and device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()


def _try(network: nn.Module, batch: Tensor, engine: Engine) -> None:
    """Forward and backward, with gradients of what training will ask for: the parameters, or else the images."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    images = batch.detach().requires_grad_(not trained)
    begin_pass(engine, batch.device)
    with engine.autocast(batch.device):
        logits = network(images)
    torch.autograd.grad(logits.float().sum(), trained or [images], allow_unused=True)


class _Compiled(nn.Module):
    def __init__(self, network: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        # CUDA graphs, for the kernels of a 32-pixel network take less time than launching them.
        self.run: Any = torch.compile(network, mode="reduce-overhead", dynamic=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images) if len(images) == self.batch_size else self.network(images)

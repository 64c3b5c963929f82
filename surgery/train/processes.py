"""Several processes that train one network, each on its share of every batch.

The loss of a batch is the sum of the losses of the processes, so a gradient is the sum of theirs. Everything that is
random is drawn for the whole batch in every process, and each takes its share: the shares together are the batch of a
single process.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

from surgery.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process, `rank`, of `count` that train together."""

    rank: int
    count: int

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """The part of a whole batch `(batch, ...)` that this process works on; parts may differ by one in length."""
        first, last = (len(batch) * rank // self.count for rank in (self.rank, self.rank + 1))
        return batch[first:last]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes, through which gradients flow."""
        return values if self.count == 1 else _Sum.apply(values)

    @torch.no_grad()
    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of the tensors by its sum over the processes, all in one message."""
        if self.count == 1 or not tensors:
            return
        message = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(message)
        for tensor, part in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes(rank=0, count=1)
"""One process, as without a launcher."""


def join(device: torch.device) -> Processes:
    """Join the processes that a launcher such as `torchrun` started; alone where none did.

    A process group that exists already is used. One that is made here stays until the program ends: the next training
    run needs it again, and its processes cannot be called together a second time at the same address.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        if launched() == 1:
            return ALONE
        # Ranks and the address of the first process are in the environment, where the launcher put them.
        if device.type == "cuda":
            torch.cuda.set_device(device)
            distributed.init_process_group("nccl", device_id=device)
        else:
            distributed.init_process_group("gloo")
        atexit.register(_leave)
    return Processes(rank=distributed.get_rank(), count=distributed.get_world_size())


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def launched() -> int:
    """How many processes the launcher says there are; raises InputError where that is no number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"WORLD_SIZE is {text!r} in the environment; the number of processes is expected")
    return int(text)


def device_of_process(device: torch.device) -> torch.device:
    """The GPU of this process, where several processes on one machine share its GPUs."""
    if device.type != "cuda" or device.index is not None or launched() == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


class _Sum(torch.autograd.Function):
    """y = sum_r x_r; the losses of all processes depend on y, so the gradient of x_r is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        result = values.clone()
        distributed.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        result = gradients[0].contiguous().clone()
        distributed.all_reduce(result)
        return result

"""Several processes that train one network, each on its share of every batch.

The loss of a batch is the sum of the losses of the processes, so its gradient is the sum of their gradients. Everything
random is drawn for the whole batch in every process, and each takes its share: the shares together are the batch of a
single process. Batch norm takes its statistics over the whole batch.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
        """The part of a whole batch `(batch, ...)` for this process; the lengths of parts differ by at most one."""
        first, last = (len(batch) * rank // self.count for rank in (self.rank, self.rank + 1))
        return batch[first:last]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes; gradients flow through it."""
        return values if self.count == 1 else _Sum.apply(values)

    @torch.no_grad()
    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of the tensors by its sum over the processes."""
        if self.count == 1 or not tensors:
            return
        # One message: a network has many small tensors, and each message costs a round trip.
        message = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(message)
        for tensor, part in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def wait(self) -> None:
        """Return when every process has called this."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes(rank=0, count=1)
"""A single process, as without a launcher."""


def join(device: torch.device) -> Processes:
    """Join the processes that a launcher such as `torchrun` started; `ALONE` without a launcher.

    An existing process group is used. A group that is made here stays until the program ends: the next training run
    needs it again, and processes cannot meet twice at the same address.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        if launched() == 1:
            return ALONE
        # The launcher puts the rank and the address of the first process into the environment, where torch reads them.
        if device.type == "cuda":
            torch.cuda.set_device(device)
            distributed.init_process_group("nccl", device_id=device)
        else:
            distributed.init_process_group("gloo")
        atexit.register(lambda: distributed.destroy_process_group() if distributed.is_initialized() else None)
    return Processes(rank=distributed.get_rank(), count=distributed.get_world_size())


def launched() -> int:
    """The number of processes that the launcher started, from WORLD_SIZE; raises InputError where it is no number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"expected the number of processes in the environment variable WORLD_SIZE, got {text!r}")
    return int(text)


def device_of_process(device: torch.device) -> torch.device:
    """The GPU of this process, where several processes share the GPUs of a machine; else `device` itself."""
    if device.type != "cuda" or device.index is not None or launched() == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


class _Sum(torch.autograd.Function):
    """y = sum_r x_r; the losses of all processes depend on y, so the gradient of x_r is the sum of their gradients."""

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


class SharedBatchNorm(_BatchNorm):
    """Batch norm with the statistics of the whole batch; parameters, buffers and their names are those of `like`.

    torch's SyncBatchNorm runs on GPUs only.
    """

    def __init__(self, like: _BatchNorm, processes: Processes) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self._parameters = like._parameters
        self._buffers = like._buffers
        self.processes = processes
        self.train(like.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions: the replaced batch norm has accepted these images before."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, ...) to the same shape."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        # Like torch's kernels, statistics are computed in float32 under autocast: bfloat16 has eight bits.
        x = input if input.dtype == torch.float64 else input.float()
        over = [dimension for dimension in range(x.dim()) if dimension != 1]
        across = (1, -1, *(1,) * (x.dim() - 2))
        # Shares differ in length by one, so sums and counts are added, never means.
        count = self.processes.sum(x.new_tensor(x.numel() / x.shape[1]))
        mean = self.processes.sum(x.sum(over)) / count
        centered = x - mean.view(across)
        variance = self.processes.sum(centered.square().sum(over)) / count
        if self.training and self.running_mean is not None:
            self._track(mean.detach(), variance.detach(), count)
        scaled = centered * (variance + self.eps).rsqrt().view(across)
        if self.affine:
            scaled = scaled * self.weight.view(across) + self.bias.view(across)
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Update the running statistics; the running variance is the unbiased one, as in torch."""
        assert self.running_mean is not None, "statistics are tracked"
        assert self.running_var is not None, "statistics are tracked"
        assert self.num_batches_tracked is not None, "statistics are tracked"
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)


def share_batch_norm(network: nn.Module, processes: Processes) -> nn.Module:
    """Replace every batch norm of `network` by a `SharedBatchNorm`; return the network, or its replacement."""
    if processes.count == 1:
        return network
    if isinstance(network, _BatchNorm):
        return SharedBatchNorm(network, processes)
    for name, child in network.named_children():
        setattr(network, name, share_batch_norm(child, processes))
    return network

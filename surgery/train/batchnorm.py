"""Batch norm over a batch that several processes share, on any device; torch's own knows only GPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.train.processes import Processes


class SharedBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of the whole batch; parameters, buffers and their names stay."""

    def __init__(self, like: _BatchNorm, processes: Processes) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self._parameters = like._parameters
        self._buffers = like._buffers
        self.processes = processes
        self.train(like.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions: the network was tried with the batch norm that this one replaces."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, ...) to the same shape."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        x = input if input.dtype == torch.float64 else input.float()
        over = [dimension for dimension in range(x.dim()) if dimension != 1]
        across = (1, -1, *(1,) * (x.dim() - 2))
        count = self.processes.sum(x.new_tensor(x.numel() / x.shape[1]))
        mean = self.processes.sum(x.sum(over)) / count
        centred = x - mean.view(across)
        variance = self.processes.sum(centred.square().sum(over)) / count
        if self.training:
            self._track(mean.detach(), variance.detach(), count)
        scaled = centred * (variance + self.eps).rsqrt().view(across)
        if self.affine:
            scaled = scaled * self.weight.view(across) + self.bias.view(across)
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)


def share_batch_norm(network: nn.Module, processes: Processes) -> nn.Module:
    """Put `SharedBatchNorm` in the place of every batch norm of `network`; return it, or what takes its place."""
    if processes.count == 1:
        return network
    if isinstance(network, _BatchNorm):
        return SharedBatchNorm(network, processes)
    for name, child in network.named_children():
        setattr(network, name, share_batch_norm(child, processes))
    return network

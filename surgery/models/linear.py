"""The linear model of the paper's Table 1: one linear layer on the pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """F(x) = W^T x + b on square images of `input_size` pixels a side, flattened channel by channel."""

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3, input_size: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels * input_size**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, input_size, input_size) to logits (batch, num_classes)."""
        return self.linear(torch.flatten(x, 1))

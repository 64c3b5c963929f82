"""Densely connected networks for 32-pixel images: a 3x3 stem with stride 1 and without pooling, four dense blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseLayer(nn.Module):
    """Batch norm, ReLU and convolution, twice: 1x1 to 4 `growth` channels, 3x3 to `growth`; the input is appended."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, growth + in_channels, H, W)."""
        y = self.conv1(functional.relu(self.bn1(x)))
        y = self.conv2(functional.relu(self.bn2(y)))
        # New channels come first: CIFAR checkpoints with these parameter names have their weights in that order.
        return torch.cat([y, x], dim=1)


class Transition(nn.Module):
    """Batch norm, ReLU, a 1x1 convolution, and average pooling, which halves the image."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, channels, H / 2, W / 2)."""
        return functional.avg_pool2d(self.conv(functional.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """Four dense blocks of `depths` layers; a transition after the first three halves image and channels.

    `width` is the number of channels after the stem, twice the growth rate. Parameter names are those that CIFAR
    checkpoints of densely connected networks commonly have (`dense1.0.conv1`, `trans1.conv`, `linear`).
    Raises ValueError for an odd `width`.
    """

    def __init__(self, depths: Sequence[int], *, num_classes: int = 10, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width {width} is odd: expected an even number, twice the growth rate")
        growth = width // 2
        inputs, outputs = _channels(depths, width, growth)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.dense1 = _block(inputs[0], growth, depths[0])
        self.trans1 = Transition(outputs[0], inputs[1])
        self.dense2 = _block(inputs[1], growth, depths[1])
        self.trans2 = Transition(outputs[1], inputs[2])
        self.dense3 = _block(inputs[2], growth, depths[2])
        self.trans3 = Transition(outputs[2], inputs[3])
        self.dense4 = _block(inputs[3], growth, depths[3])
        self.bn = nn.BatchNorm2d(outputs[3])
        self.linear = nn.Linear(outputs[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to logits (batch, num_classes); H and W at least 8."""
        y = self.trans1(self.dense1(self.conv1(x)))
        y = self.trans2(self.dense2(y))
        y = self.trans3(self.dense3(y))
        y = functional.relu(self.bn(self.dense4(y)))
        return self.linear(torch.flatten(functional.adaptive_avg_pool2d(y, 1), 1))


def _channels(depths: Sequence[int], width: int, growth: int) -> tuple[list[int], list[int]]:
    """The numbers of channels of the input and the output of each block."""
    inputs, outputs = [width], [width + depths[0] * growth]
    for depth in depths[1:]:
        inputs.append(outputs[-1] // 2)
        outputs.append(inputs[-1] + depth * growth)
    return inputs, outputs


def _block(in_channels: int, growth: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(in_channels + index * growth, growth) for index in range(depth)))

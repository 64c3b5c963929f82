"""Residual networks for small images: a stem for 32 or for 96 pixels, followed by the usual four stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from surgery.errors import InputError, suggest

STEM_SIZES = {"cifar": 32, "stl": 96}
"""The side of the image that each stem is for."""


class BasicBlock(nn.Module):
    """relu(conv3x3(relu(conv3x3(x))) + shortcut(x)), each convolution followed by batch normalization."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, channels, H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """As `BasicBlock`, with 1x1, 3x3 and 1x1 convolutions, and four times as many channels at its end."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, 4 channels, H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Four stages of `depths` blocks with `width`, 2, 4 and 8 `width` channels.

    The stem is a convolution, 3x3 with stride 1 for CIFAR's 32 pixels (`stem="cifar"`), or 5x5 with padding 1 and a max
    pooling that halves for STL-10's 96 (`stem="stl"`). Parameter names are those that CIFAR checkpoints of residual
    networks commonly have (`layer1.0.conv1`, `layer2.0.shortcut.0`, `linear`). Raises InputError for another stem.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        num_classes: int = 10,
        width: int = 64,
        in_channels: int = 3,
        stem: str = "cifar",
    ) -> None:
        super().__init__()
        if stem not in STEM_SIZES:
            expected = " or ".join(STEM_SIZES)
            raise InputError(f"stem {stem!r}: expected {expected}", hint=suggest(str(stem), STEM_SIZES))
        widths = [width * factor for factor in (1, 2, 4, 8)]
        inputs = [width] + [channels * block.expansion for channels in widths]
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=5 if stem == "stl" else 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if stem == "stl" else nn.Sequential()
        self.layer1 = _stage(block, inputs[0], widths[0], depths[0], stride=1)
        self.layer2 = _stage(block, inputs[1], widths[1], depths[1], stride=2)
        self.layer3 = _stage(block, inputs[2], widths[2], depths[2], stride=2)
        self.layer4 = _stage(block, inputs[3], widths[3], depths[3], stride=2)
        self.linear = nn.Linear(inputs[4], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to logits (batch, num_classes); any H and W."""
        y = self.pool(functional.relu(self.bn1(self.conv1(x))))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        y = functional.adaptive_avg_pool2d(y, 1)
        return self.linear(torch.flatten(y, 1))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """The identity where shapes agree, else a 1x1 convolution; the identity adds no names to the state dict."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, channels: int, depth: int, *, stride: int
) -> nn.Sequential:
    first = block(in_channels, channels, stride)
    rest = [block(channels * block.expansion, channels, 1) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)

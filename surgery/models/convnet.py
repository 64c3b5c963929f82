"""A small convolutional network for images of 16 to 32 pixels: what the quickstart trains in seconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNet(nn.Module):
    """Three stages of a 3x3 convolution, batch norm, ReLU and max pooling with `width`, 2 and 4 `width` channels.

    The linear layer sees the mean over each quarter of the image: a mean over the whole would lose where something is,
    which tells the classes of `planted` apart.
    """

    def __init__(self, *, num_classes: int = 10, width: int = 32, in_channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(in_channels, width), *_stage(width, 2 * width), *_stage(2 * width, 4 * width)
        )
        self.classifier = nn.Linear(4 * 4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to logits (batch, num_classes); H and W at least 8."""
        y = functional.adaptive_avg_pool2d(self.features(x), 2)
        return self.classifier(torch.flatten(y, 1))


def _stage(in_channels: int, channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(kernel_size=2, stride=2)]

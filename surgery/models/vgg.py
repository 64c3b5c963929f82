"""VGG networks for 32-pixel images: five stages of 3x3 convolutions and max pooling, one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class VGG(nn.Module):
    """Five stages of `depths` convolutions with `width`, 2, 4, 8 and 8 `width` channels, each halving the image.

    The state dict has `features.N` and `classifier`; with 32-pixel images the last stage ends at one pixel.
    """

    def __init__(
        self, depths: Sequence[int], batch_norm: bool, *, num_classes: int = 10, width: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for depth, factor in zip(depths, (1, 2, 4, 8, 8), strict=True):
            for _ in range(depth):
                layers += _convolution(channels, width * factor, batch_norm)
                channels = width * factor
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to logits (batch, num_classes); H and W at least 32."""
        y = functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(y, 1))


def _convolution(in_channels: int, out_channels: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()] if batch_norm else [convolution, nn.ReLU()]

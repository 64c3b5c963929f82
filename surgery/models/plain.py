"""Networks without skip connections, for small images: VGG, AlexNet, a small convolutional network, and one layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class VGG(nn.Module):
    """VGG for 32 pixels: five stages of `depths` 3x3 convolutions and max pooling, and one linear layer.

    The stages have `width`, 2, 4, 8 and 8 `width` channels, and each halves the image, so that 32-pixel images end at
    one pixel. The state dict has `features.N` and `classifier`.
    """

    def __init__(
        self, depths: Sequence[int], batch_norm: bool, *, num_classes: int = 10, width: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for depth, factor in zip(depths, (1, 2, 4, 8, 8), strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width * factor, kernel_size=3, padding=1))
                channels = width * factor
                layers += [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to logits (batch, num_classes); H and W at least 32."""
        y = functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(y, 1))


class AlexNet(nn.Module):
    """AlexNet for 32 pixels: five convolutions with `width`, 3, 6, 4 and 4 `width` channels, and one linear layer.

    Three things differ from the one-tower network for 224 pixels: the 11x11 stride-4 stem has padding 5, the poolings
    halve exactly, and one of the three linear layers remains, because the last pooling leaves one pixel. Parameter
    names (`features.N`, `classifier`) and sizes are those of the common CIFAR version.
    """

    def __init__(self, *, num_classes: int = 10, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel_size=11, stride=4, padding=5),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(width, 3 * width, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(3 * width, 6 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6 * width, 4 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4 * width, 4 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to logits (batch, num_classes); H and W at least 29."""
        y = functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(y, 1))


class ConvNet(nn.Module):
    """A small network for 16 to 32 pixels, which the quickstart trains in seconds.

    Three stages of a 3x3 convolution, batch norm, ReLU and max pooling with `width`, 2 and 4 `width` channels. The
    linear layer sees the mean over each quarter of the image: a mean over the whole image would lose the position of a
    shape, which tells the classes of `planted` apart.
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


class Linear(nn.Module):
    """The linear model of Table 1: F(x) = W^T x + b, channel by channel.

    Images are `input_size` pixels high and `input_width` wide, which is `input_size` by default.
    """

    def __init__(
        self, *, num_classes: int = 10, in_channels: int = 3, input_size: int = 32, input_width: int | None = None
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels * input_size * (input_width or input_size), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, input_size, input_width) to logits (batch, num_classes)."""
        return self.linear(torch.flatten(x, 1))

"""AlexNet for 32-pixel images: the five convolutions of the one-tower network, ending at one pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class AlexNet(nn.Module):
    """Five convolutions with `width`, 3, 6, 4 and 4 `width` channels, three max poolings and one linear layer.

    What 32 pixels ask for: the 11x11 stride-4 stem has padding 5, the poolings halve, and of the three linear layers
    with their dropout one remains, as the last pooling leaves one pixel. Parameter names (`features.N`, `classifier`)
    and sizes are those of the common CIFAR version.
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

"""What an architecture is to the loader: something that builds it and the input it is meant for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

Shape = tuple[int, int, int]

CHANNELS = ("in_channels", "in_chans")
"""What surgery's own architectures and timm's call the number of input channels."""
SIZES = ("input_size", "img_size", "image_size")
"""What surgery's own architectures, timm's and torchvision's call the side of the image."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A builder, whose keyword arguments are the architecture's arguments, and its input (C, H, W) if it has one.

    `stem_sizes` is the side of the image that each value of the argument `stem` is for, where there is one.
    """

    builder: Callable[..., nn.Module]
    input_shape: Shape | None
    stem_sizes: Mapping[str, int] = field(default_factory=dict)

    def shape_with(self, arguments: Mapping[str, Any]) -> Shape | None:
        """The (C, H, W) that it is meant for when it is built with `arguments`."""
        if self.input_shape is None:
            return None
        channels, height, width = self.input_shape
        stem = arguments.get("stem")
        size = _first_whole(arguments, SIZES) or (self.stem_sizes.get(stem) if isinstance(stem, str) else None)
        return (_first_whole(arguments, CHANNELS) or channels, size or height, size or width)


def _first_whole(arguments: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := arguments.get(name), int)), None)

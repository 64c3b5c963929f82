"""What an architecture is to the loader: something that builds it and the input it is meant for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A builder, whose keyword arguments are the architecture's arguments, and its input (C, H, W) if it has one."""

    builder: Callable[..., nn.Module]
    input_shape: Shape | None

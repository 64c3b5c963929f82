"""Normalization of the input as a layer of the network, so that images, attacks and epsilon stay in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import InputError, suggest
from surgery.models.weights import State, match_names

_CONSTANTS = ("normalize.mean", "normalize.std")


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Mean and standard deviation of each channel, of images in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_argument(self) -> dict[str, list[float]]:
        """The argument `normalize` of `build`, which a checkpoint keeps among its arguments."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def agrees(self, other: Normalization) -> bool:
        """Whether the two are equal up to the rounding of a file in half precision."""
        pairs = list(zip(self.mean + self.std, other.mean + other.std, strict=False))
        same_length = len(self.mean) == len(other.mean)
        return same_length and all(math.isclose(one, two, rel_tol=1e-2) for one, two in pairs)


NORMALIZATIONS: Mapping[str, Normalization] = {
    "cifar10": Normalization(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    "imagenet": Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}
"""By name: the statistics of the training images of CIFAR-10, and those that torchvision takes for ImageNet."""


class Normalize(nn.Module):
    """(x - mean) / std, channel by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalization.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(normalization.std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, H, W) to the same."""
        return (x - self.mean) / self.std


class Normalized(nn.Module):
    """A normalization followed by `model`; the state dict has the two constants, so that every file keeps them."""

    def __init__(self, normalization: Normalization, model: nn.Module) -> None:
        super().__init__()
        self.normalize = Normalize(normalization)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, H, W) in [0, 1] to logits (batch, classes)."""
        return self.model(self.normalize(x))


def parse_normalization(value: Any, channels: int | None) -> Normalization:
    """Read `{"mean": [...], "std": [...]}`, one number for each of the input's `channels`; raises InputError."""
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        given = list(value) if isinstance(value, Mapping) else value
        near = suggest(str(next(iter(set(value) - {"mean", "std"}), "")), ("mean", "std")) if given else None
        raise InputError(f"normalize: expected mean and std, got {given!r}", hint=near)
    mean, std = _numbers("mean", value["mean"]), _numbers("std", value["std"])
    if len(mean) != len(std) or channels not in (None, len(mean)):
        expected = f"{channels}, one for each channel" if channels else "equally many"
        raise InputError(f"normalize: {len(mean)} numbers in mean and {len(std)} in std; expected {expected}")
    if min(std) <= 0:
        raise InputError(f"normalize: std must be above 0, got {min(std)}")
    if max(map(abs, mean)) > 1 or max(std) > 1:
        raise InputError(
            f"normalize: expected mean and std of images in [0, 1], got {list(mean)} and {list(std)}",
            hint="divide both by 255 if they are of 8-bit values",
        )
    return Normalization(mean=mean, std=std)


def read_normalization(text: str, channels: int | None) -> Normalization:
    """Read the name of a normalization (`cifar10`, `imagenet`), or `MEAN;STD` with a number for each channel.

    As in `0.5,0.5,0.5;0.25,0.25,0.25`. Raises InputError for anything else.
    """
    if text in NORMALIZATIONS:
        found = NORMALIZATIONS[text]
        return parse_normalization(found.as_argument(), channels)
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in text.split(";"))
    except ValueError:
        known = ", ".join(NORMALIZATIONS)
        raise InputError(
            f"`normalize`: expected {known} or MEAN;STD, got {text!r}",
            hint=suggest(text, NORMALIZATIONS) or "as in '0.5,0.5,0.5;0.25,0.25,0.25', in quotes",
        ) from None
    return parse_normalization({"mean": mean, "std": std}, channels)


def normalized(module: nn.Module, normalization: Normalization) -> nn.Module:
    """`module` behind a layer that normalizes, in its mode; raises InputError for one that has such a layer."""
    if isinstance(module, Normalized):
        raise InputError("`normalize`: the network has a normalization layer already, so it takes images in [0, 1]")
    return Normalized(normalization, module).train(module.training)


def without_normalization(module: nn.Module) -> nn.Module:
    """The network without its normalization layer, if it has one."""
    return module.model if isinstance(module, Normalized) else module


def normalization_in(state: State) -> Normalization | None:
    """The normalization in the state dict of a `Normalized` network, or None."""
    found = match_names(state, _CONSTANTS)
    if any(name not in found for name in _CONSTANTS):
        return None
    mean, std = (tuple(float(value) for value in found[name].flatten()) for name in _CONSTANTS)
    return Normalization(mean=mean, std=std)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise InputError(f"normalize: {name} must be a list of numbers, one for each channel, got {value!r}")
    bad = next((item for item in value if not _is_finite(item)), None)
    if bad is not None:
        raise InputError(f"normalize: {name} must be a list of finite numbers, got {list(value)!r}")
    return tuple(float(item) for item in value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)

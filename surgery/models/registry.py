"""Architectures by name: surgery's own (`resnet18`), `torchvision:NAME` and `timm:NAME`; nothing is ever downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from surgery.errors import InputError, suggest
from surgery.models.alexnet import AlexNet
from surgery.models.architecture import CHANNELS, Architecture, Shape
from surgery.models.convnet import ConvNet
from surgery.models.densenet import DenseNet
from surgery.models.linear import Linear
from surgery.models.normalization import Normalized, parse_normalization
from surgery.models.resnet import STEM_SIZES, BasicBlock, Bottleneck, ResNet
from surgery.models.vgg import VGG
from surgery.models.zoos import from_timm, from_torchvision

ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(
        builder=partial(ResNet, BasicBlock, (2, 2, 2, 2)), input_shape=(3, 32, 32), stem_sizes=STEM_SIZES
    ),
    "resnet34": Architecture(
        builder=partial(ResNet, BasicBlock, (3, 4, 6, 3)), input_shape=(3, 32, 32), stem_sizes=STEM_SIZES
    ),
    "resnet50": Architecture(
        builder=partial(ResNet, Bottleneck, (3, 4, 6, 3)), input_shape=(3, 32, 32), stem_sizes=STEM_SIZES
    ),
    "vgg11": Architecture(builder=partial(VGG, (1, 1, 2, 2, 2), False), input_shape=(3, 32, 32)),
    "vgg13": Architecture(builder=partial(VGG, (2, 2, 2, 2, 2), False), input_shape=(3, 32, 32)),
    "vgg16": Architecture(builder=partial(VGG, (2, 2, 3, 3, 3), False), input_shape=(3, 32, 32)),
    "vgg19": Architecture(builder=partial(VGG, (2, 2, 4, 4, 4), False), input_shape=(3, 32, 32)),
    "vgg11_bn": Architecture(builder=partial(VGG, (1, 1, 2, 2, 2), True), input_shape=(3, 32, 32)),
    "vgg13_bn": Architecture(builder=partial(VGG, (2, 2, 2, 2, 2), True), input_shape=(3, 32, 32)),
    "vgg16_bn": Architecture(builder=partial(VGG, (2, 2, 3, 3, 3), True), input_shape=(3, 32, 32)),
    "vgg19_bn": Architecture(builder=partial(VGG, (2, 2, 4, 4, 4), True), input_shape=(3, 32, 32)),
    "densenet121": Architecture(builder=partial(DenseNet, (6, 12, 24, 16)), input_shape=(3, 32, 32)),
    "alexnet": Architecture(builder=AlexNet, input_shape=(3, 32, 32)),
    "convnet": Architecture(builder=ConvNet, input_shape=(3, 32, 32)),
    "linear": Architecture(builder=Linear, input_shape=(3, 32, 32)),
}

_ZOOS: dict[str, Callable[[str], Architecture]] = {"torchvision": from_torchvision, "timm": from_timm}

# Arguments of torchvision's and timm's builders that fetch weights or read further files. Arguments come out of model
# files too, and opening a model file must do neither.
_REFUSED = {
    *("weights", "weights_backbone", "progress"),
    *("pretrained", "pretrained_backbone", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
}
_COUNTS = ("num_classes", "width", *CHANNELS, "input_size")


def architectures() -> list[str]:
    """Return the names of surgery's own architectures; torchvision's and timm's come on top."""
    return list(ARCHITECTURES)


def build(
    name: str,
    *,
    num_classes: int | None = None,
    normalize: Mapping[str, Sequence[float]] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build the architecture `name` with random weights, drawn from torch's global generator.

    `num_classes=None` keeps the architecture's own number. With `normalize={"mean": [...], "std": [...]}`, one number
    for each channel of images in [0, 1], the network stands behind a layer that normalizes.
    Raises InputError for an unknown name, for an argument that the architecture does not take or that would load
    weights, and for timm where it is not installed.
    """
    if num_classes is not None:
        arguments = {"num_classes": num_classes, **arguments}
    _check_arguments(name, arguments)
    architecture = find(name)
    network = _call(architecture.builder, name, arguments)
    if normalize is None:
        return network
    shape = architecture.shape_with(arguments)
    return Normalized(parse_normalization(normalize, channels=shape[0] if shape else None), network)


def default_input_shape(name: str, arguments: Mapping[str, Any] | None = None) -> Shape | None:
    """Return the (C, H, W) that `name` with `arguments` is meant for, or None where the architecture does not say."""
    return find(name).shape_with(arguments or {})


def find(name: str) -> Architecture:
    """Return the architecture called `name`; raises InputError with the nearest names."""
    zoo, colon, short = name.partition(":")
    if not colon:
        return _find_own(name)
    if zoo not in _ZOOS:
        raise InputError(
            f"{name}: no collection of architectures is called {zoo!r}",
            hint="write NAME for surgery's own, torchvision:NAME or timm:NAME",
        )
    return _ZOOS[zoo](short)


def _find_own(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        near = suggest(name, ARCHITECTURES) or f"surgery's own are {', '.join(ARCHITECTURES)}"
        raise InputError(f"{name}: unknown architecture", hint=f"{near}; others are torchvision:NAME and timm:NAME")
    return ARCHITECTURES[name]


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    refused = sorted(_REFUSED & arguments.keys())
    if refused:
        raise InputError(f"{name}: {', '.join(refused)} would load weights; build() only makes the network")
    for key in _COUNTS:
        value = arguments.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}: {key} must be a whole number of at least 1, not {value!r}")


def _call(builder: Callable[..., nn.Module], name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call `builder`; an argument that it does not take becomes an InputError that names it."""
    parameters = inspect.signature(builder).parameters
    unknown = [key for key in arguments if key not in parameters]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise InputError(
            f"{name}: unknown argument {', '.join(unknown)}",
            hint=suggest(unknown[0], parameters) or f"it takes {', '.join(parameters)}",
        )
    try:
        return builder(**arguments)
    # torchvision's and timm's builders take **kwargs: only their constructors can say what is wrong with one.
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(f"{name}: cannot be built with ({given}): {error}") from error

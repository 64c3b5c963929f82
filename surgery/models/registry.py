"""Architectures by name: surgery's own, `torchvision:NAME`, `timm:NAME`, and a user's `package.module:name`.

Nothing is downloaded. A user's function is imported to build its network, and never to check a name or arguments.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from surgery import plugins
from surgery.errors import InputError, suggest
from surgery.models.densenet import DenseNet
from surgery.models.normalization import Normalized, parse_normalization
from surgery.models.plain import VGG, AlexNet, ConvNet, Linear
from surgery.models.resnet import STEM_SIZES, BasicBlock, Bottleneck, ResNet
from surgery.models.sources import (
    CHANNELS,
    Architecture,
    Shape,
    call_user,
    from_timm,
    from_torchvision,
    from_user,
)

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

_ZOOS: dict[str, Callable[[str], Architecture]] = {"torchvision:": from_torchvision, "timm:": from_timm}

GROUP = "surgery.architectures"
"""The entry-point group in which installed packages register architectures."""

PROVIDED = ("num_classes", *CHANNELS, "input_size")
"""Arguments that follow from the data: a recipe passes each that the architecture takes."""

# Arguments of torchvision's and timm's builders that fetch weights or read further files. Arguments come from model
# files too, and opening a model file must do neither.
_REFUSED = {
    *("weights", "weights_backbone", "progress"),
    *("pretrained", "pretrained_backbone", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
}
_COUNTS = ("num_classes", "width", *CHANNELS, "input_size")


def architectures() -> list[str]:
    """Return the names of surgery's own architectures, without those of torchvision, timm and users."""
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
    for each channel of images in [0, 1], a layer that normalizes is put before the network.

    Raises InputError for an unknown name, for an argument that the architecture does not take or that would load
    weights, for timm where it is not installed, and for a user's function that fails or returns no network.
    """
    if num_classes is not None:
        arguments = {"num_classes": num_classes, **arguments}
    architecture = find(name)
    if user_reference(name) is None:
        network = _build_known(architecture.builder, name, arguments)
    else:
        plugins.check_arguments(name, plugins.signature_of(architecture.builder), arguments)
        network = call_user(architecture.builder, name, arguments)
    if normalize is None:
        return network
    shape = architecture.shape_with(arguments)
    return Normalized(parse_normalization(normalize, channels=shape[0] if shape else None), network)


def default_input_shape(name: str, arguments: Mapping[str, Any] | None = None) -> Shape | None:
    """Return the (C, H, W) for which `name` with `arguments` is made, or None if the architecture defines none."""
    return None if user_reference(name) is not None else find(name).shape_with(arguments or {})


def find(name: str) -> Architecture:
    """Return the architecture called `name`, importing a user's; raises InputError with the nearest names."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    for prefix, source in _ZOOS.items():
        if name.startswith(prefix):
            return source(name.removeprefix(prefix))
    reference = user_reference(name)
    if reference is not None:
        try:
            return from_user(reference)
        except InputError as error:
            raise _with_zoos(error) from error.__cause__
    if ":" in name:
        raise InputError(f"{name}: expected a name, torchvision:NAME, timm:NAME or package.module:name")
    near = suggest(name, [*ARCHITECTURES, *plugins.registered(GROUP)])
    hint = near or f"surgery's own are {', '.join(ARCHITECTURES)}"
    raise InputError(
        f"{name}: unknown architecture", hint=f"{hint}; others are torchvision:NAME, timm:NAME and package.module:name"
    )


def user_reference(name: str) -> str | None:
    """The reference `package.module:name` of a user's architecture; None for every other name.

    A name that an installed package registers stands for its reference. surgery's own names, torchvision: and timm:
    come first.
    """
    if name in ARCHITECTURES or name.startswith(tuple(_ZOOS)):
        return None
    return plugins.reference_of(name, GROUP)


def check_architecture(name: str, arguments: Mapping[str, Any]) -> None:
    """Check that `name` can be built with `arguments`, without running the code of a user and without any memory.

    A user's function is located, and the arguments are compared with its signature; `PROVIDED` ones may be missing.

    Raises InputError for an unknown name, and ArgumentError, whose `key` names the argument if one is to blame.
    """
    reference = user_reference(name)
    if reference is None:
        find(name)
        _try_to_build(name, json.dumps(dict(arguments)))
        return
    try:
        signature = plugins.locate(reference).signature
    except InputError as error:
        raise _with_zoos(error) from None
    takes = () if signature is None else (*signature.required, *signature.optional)
    # `normalize` is an argument of `build`; a provided argument may be given as well, if the function takes it.
    given = [key for key in arguments if key != "normalize" and not (key in PROVIDED and key in takes)]
    plugins.check_arguments(name, signature, given, provided=PROVIDED)


@functools.lru_cache(maxsize=256)
def _try_to_build(name: str, arguments: str) -> None:
    """Build on the meta device, whose tensors have no memory. Cached: a matrix of stages asks for the same again."""
    given = json.loads(arguments)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            build(name, **given)
    except plugins.ArgumentError:
        raise
    except InputError as error:
        # Only the constructor can find the mistake; its message mostly names the argument.
        words = re.findall(r"\w+", str(error.__cause__ or error.message))
        key = next((key for key in given if key in words), "")
        raise plugins.ArgumentError(error.message, key=key, hint=error.hint) from None


def _with_zoos(error: InputError) -> InputError:
    """Add the collections to the hint: `keras:resnet18` has the form of a user's own."""
    hint = "other architectures are torchvision:NAME and timm:NAME"
    return InputError(error.message, hint=f"{error.hint}; {hint}" if error.hint else hint)


def _build_known(builder: Callable[..., nn.Module], name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the builder of surgery, torchvision or timm; an argument that it does not take is an error that names it."""
    refused = sorted(_REFUSED & arguments.keys())
    if refused:
        message = f"{name}: {', '.join(refused)} would load weights; build() only makes the network"
        raise plugins.ArgumentError(message, key=refused[0])
    for key in _COUNTS:
        value = arguments.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise plugins.ArgumentError(f"{name}: {key} must be a whole number of at least 1, got {value!r}", key=key)
    plugins.check_arguments(name, plugins.signature_of(builder), arguments)
    try:
        return builder(**arguments)
    # torchvision's and timm's builders take **kwargs: only their constructors can check one.
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(f"{name}: cannot be built with ({given}): {error}") from error

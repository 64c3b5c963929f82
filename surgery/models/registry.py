"""Architectures by name: surgery's own, `torchvision:NAME`, `timm:NAME`, and a user's `package.module:name`.

Only `build_published` downloads anything. A user's function is imported to build its network, and never to check a
name or arguments.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from surgery import plugins
from surgery.errors import InputError, suggest
from surgery.models.building import build_known
from surgery.models.densenet import DenseNet
from surgery.models.normalization import Normalized, parse_normalization
from surgery.models.plain import VGG, AlexNet, ConvNet, Linear
from surgery.models.published import Published, published_by_timm, published_by_torchvision
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
_PUBLISHED: dict[str, Callable[[str, str], Published]] = {
    "torchvision:": published_by_torchvision,
    "timm:": published_by_timm,
}

GROUP = "surgery.architectures"
"""The entry-point group in which installed packages register architectures."""

PROVIDED = ("num_classes", *CHANNELS, "input_size", "input_width")
"""Arguments that follow from the data: a recipe passes each that the architecture takes."""


def architectures() -> list[str]:
    """Return the names of surgery's own architectures, without those of torchvision, timm and users."""
    return list(ARCHITECTURES)


@torch.inference_mode(False)  # weights that are made in it can never be trained
def build(
    name: str,
    /,
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
        network = build_known(architecture.builder, name, arguments)
    else:
        plugins.check_arguments(name, plugins.signature_of(architecture.builder), arguments)
        network = call_user(architecture.builder, name, arguments)
    return _normalized(network, normalize, architecture.shape_with(arguments))


@torch.inference_mode(False)
def build_published(name: str, weights: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build torchvision's or timm's architecture `name` with published weights, which the library downloads once.

    `weights` is a name that the library knows, or `DEFAULT`. Images are in [0, 1]: unless the `arguments` have
    `normalize`, the normalization that the weights were trained with is put before the network.

    Raises InputError for an architecture without published weights, for unknown weights, for arguments that do not fit
    them, and where the download fails.
    """
    found = next((source for prefix, source in _PUBLISHED.items() if name.startswith(prefix)), None)
    if found is None:
        raise InputError(
            f"{name}: there are no published weights of this architecture",
            hint="torchvision:NAME and timm:NAME have some; give a file of weights for any other",
        )
    load, normalization = found(name.partition(":")[2], weights)
    architecture, given = find(name), dict(arguments or {})
    normalize = given.pop("normalize", normalization)
    network = build_known(architecture.builder, name, given, load=load)
    return _normalized(network, normalize, architecture.shape_with(given))


def _normalized(network: nn.Module, normalize: Mapping[str, Sequence[float]] | None, shape: Shape | None) -> nn.Module:
    """`network` behind a layer that normalizes its input of the given shape, if there is anything to normalize with."""
    if normalize is None:
        return network
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
        _check_module(reference)
        return from_user(reference)
    if ":" in name:
        raise InputError(f"{name}: expected a name, torchvision:NAME, timm:NAME or package.module:name")
    near = suggest(name, [*ARCHITECTURES, *plugins.registered(GROUP)])
    others = "others are torchvision:NAME, timm:NAME and package.module:name"
    hint = near or f"surgery's own are {', '.join(ARCHITECTURES)}; {others}"
    raise InputError(f"{name}: unknown architecture", hint=hint)


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
    _check_module(reference)
    signature = plugins.locate(reference).signature
    takes = () if signature is None else (*signature.required, *signature.optional)
    # `normalize` is an argument of `build`; a provided argument may be given as well, if the function takes it.
    given = [key for key in arguments if key != "normalize" and not (key in PROVIDED and key in takes)]
    plugins.check_arguments(name, signature, given, provided=PROVIDED)


def _check_module(reference: str) -> None:
    """Raise InputError where the module of `reference` is none: `keras:resnet18` has the form of a user's own."""
    module = reference.partition(":")[0]
    with plugins.current_folder_last():
        missing = module not in sys.modules and "." not in module and importlib.util.find_spec(module) is None
    if missing:
        raise InputError(
            f"{reference}: no module {module!r} was found",
            hint="expected torchvision:NAME, timm:NAME, or a module that is installed or in this folder",
        )


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

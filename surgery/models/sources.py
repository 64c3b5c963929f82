"""`Architecture`, and the architectures of others: torchvision, timm, and functions that users write.

torchvision and timm build networks without their weights, and are imported only when a name asks for them.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from surgery import plugins
from surgery.errors import InputError, suggest

Shape = tuple[int, int, int]

CHANNELS = ("in_channels", "in_chans")
"""The argument for the number of input channels, in surgery's own architectures and in timm's."""
SIZES = ("input_size", "img_size", "image_size")
"""The argument for the side of the image, in surgery's own architectures, timm's and torchvision's."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A builder, whose keyword arguments are the architecture's arguments, and its input (C, H, W) if it has one.

    `stem_sizes` is the side of the image that each value of the argument `stem` is for, where there is one.
    """

    builder: Callable[..., nn.Module]
    input_shape: Shape | None
    stem_sizes: Mapping[str, int] = field(default_factory=dict)

    def shape_with(self, arguments: Mapping[str, Any]) -> Shape | None:
        """The (C, H, W) for which a network with these `arguments` is made."""

        def first_whole(names: tuple[str, ...]) -> int | None:
            return next((value for name in names if isinstance(value := arguments.get(name), int)), None)

        if self.input_shape is None:
            return None
        channels, height, width = self.input_shape
        stem = arguments.get("stem")
        size = first_whole(SIZES) or (self.stem_sizes.get(stem) if isinstance(stem, str) else None)
        return (first_whole(CHANNELS) or channels, size or height, size or width)


def from_torchvision(name: str) -> Architecture:
    """Return torchvision's classification model `name`; raises InputError for an unknown name."""
    from torchvision import models

    # Classification only: detection and segmentation models download the weights of their backbone.
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision:{name}: unknown architecture", hint=suggest(name, known))
    builder = models.get_model_builder(name)
    # The preprocessing that belongs to a model's published weights crops to the size it was trained on.
    crop = getattr(models.get_model_weights(name)["DEFAULT"].transforms, "keywords", {}).get("crop_size")
    return Architecture(
        builder=partial(builder, weights=None, **_decided(builder)),
        input_shape=(3, crop, crop) if isinstance(crop, int) else None,
    )


def _decided(builder: Callable[..., nn.Module]) -> dict[str, Any]:
    """Decide `init_weights` for the constructors that warn about its default, which is None only in those."""
    made = typing.get_type_hints(builder).get("return")
    parameter = inspect.signature(made).parameters.get("init_weights") if inspect.isclass(made) else None
    return {"init_weights": False} if parameter is not None and parameter.default is None else {}


def from_timm(name: str) -> Architecture:
    """Return timm's model `name`; raises InputError for an unknown name and where timm is not installed."""
    try:
        import timm
    except ImportError:
        raise InputError(f"timm:{name}: timm is not installed", hint="pip install 'model-surgery[timm]'") from None
    # Registered names only: timm would download `hf-hub:...`. The part of a name after a dot is the tag of weights.
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"timm:{name}: unknown architecture", hint=suggest(name, timm.list_models()))
    try:
        shape = getattr(timm.get_pretrained_cfg(name), "input_size", None)
    except RuntimeError:
        raise InputError(f"timm:{name}: unknown architecture", hint=suggest(name, timm.list_pretrained())) from None
    return Architecture(
        builder=partial(timm.create_model, name, pretrained=False),
        input_shape=(shape[0], shape[1], shape[2]) if shape is not None and len(shape) == 3 else None,
    )


def from_user(reference: str) -> Architecture:
    """Import `package.module:name`, a user's function or class that makes a network.

    Raises InputError where it does not exist, where importing its module fails, and where it cannot be called.
    """
    module, _, name = reference.partition(":")
    # A module that is imported needs no file: `__main__` of a notebook has none.
    made = getattr(sys.modules.get(module), name, None) or plugins.load(reference)
    if isinstance(made, nn.Module) or not callable(made):
        what = type(made).__name__
        raise InputError(f"{reference}: expected a function that returns a torch.nn.Module, got {what}")
    return Architecture(builder=typing.cast("Callable[..., nn.Module]", made), input_shape=None)


def call_user(builder: Callable[..., Any], reference: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the user's `builder` with `arguments` and return the network that it makes.

    Raises InputError where it fails, with the user's exception as its cause, and where it returns no network.
    """
    with plugins.current_folder_last():  # the function may import its neighbors only when it is called
        try:
            module = builder(**arguments)
        except Exception as error:  # a user's code may raise anything
            raise InputError(f"{reference}: calling it raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{reference}: expected a torch.nn.Module, got {type(module).__name__}")
    return module

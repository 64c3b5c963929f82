"""Calling the builders of surgery, torchvision and timm, so that an argument that they refuse is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from surgery import plugins
from surgery.errors import InputError
from surgery.graph.memory import free_memory, gigabytes, size_of
from surgery.models.sources import CHANNELS

# Arguments of torchvision's and timm's builders that fetch weights or read further files. Arguments come from model
# files too, and opening a model file must do neither.
_REFUSED = {
    *("weights", "weights_backbone", "progress"),
    *("pretrained", "pretrained_backbone", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
}
_COUNTS = ("num_classes", "width", *CHANNELS, "input_size", "input_width")


def build_known(
    builder: Callable[..., nn.Module],
    name: str,
    arguments: Mapping[str, Any],
    load: Callable[..., nn.Module] | None = None,
) -> nn.Module:
    """Call the builder of surgery, torchvision or timm; an argument that it does not take is an error that names it.

    `load` is called instead, once the arguments are checked, for a network with published weights.
    """
    refused = sorted(_REFUSED & arguments.keys())
    if refused:
        message = f"{name}: {', '.join(refused)} would load weights; build() only makes the network"
        raise plugins.ArgumentError(message, key=refused[0])
    for key in _COUNTS:
        value = arguments.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise plugins.ArgumentError(f"{name}: {key} must be a whole number of at least 1, got {value!r}", key=key)
    plugins.check_arguments(name, plugins.signature_of(builder), arguments)
    _check_size(builder, name, arguments)
    try:
        return (load or builder)(**arguments)
    except InputError:
        raise
    # torchvision's and timm's builders take **kwargs: only their constructors can check one, and raise anything.
    except Exception as error:
        key = _to_blame(builder, arguments)
        blamed = [key] if key else list(arguments)
        given = ", ".join(f"{key}={arguments[key]!r}" for key in blamed)
        message = f"{name}: cannot be built with {given or 'these settings'}: {type(error).__name__}: {error}"
        raise plugins.ArgumentError(message, key=key) from error


def _check_size(builder: Callable[..., nn.Module], name: str, arguments: Mapping[str, Any]) -> None:
    """Raise InputError for weights that do not fit into the memory, before any of it is used."""
    if not arguments or torch.empty(0).device.type == "meta":
        return
    network = _without_memory(builder, arguments)
    needed = 0 if network is None else size_of((*network.parameters(), *network.buffers()))
    if needed > free_memory():
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(
            f"{name} with {given}: its weights take {gigabytes(needed)}, and {gigabytes(free_memory())} are free",
            hint="give smaller arguments",
        )


def _to_blame(builder: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> str:
    """The one argument with which `builder` fails; an empty text where no single argument is to blame."""
    if len(arguments) == 1:
        return next(iter(arguments))
    if _without_memory(builder, {}) is None:
        return ""
    failing = [key for key, value in arguments.items() if _without_memory(builder, {key: value}) is None]
    return failing[0] if len(failing) == 1 else ""


def _without_memory(builder: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module | None:
    """The network on the meta device; None where it cannot be built there, as by a constructor that needs values."""
    with torch.device("meta"), suppress(Exception):
        return builder(**arguments)
    return None

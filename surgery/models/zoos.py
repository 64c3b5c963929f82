"""Architectures of torchvision and timm, without their weights; both packages are imported only when asked for."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn

from surgery.errors import InputError, suggest
from surgery.models.architecture import Architecture, Shape


def from_torchvision(name: str) -> Architecture:
    """Return torchvision's classification model `name`; raises InputError for an unknown name."""
    from torchvision import models

    # Classification only: detection and segmentation models fetch their backbone's weights.
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(f"torchvision:{name}", name, known)
    builder = models.get_model_builder(name)
    shape = _crop_shape(models.get_model_weights(name)["DEFAULT"].transforms)
    return Architecture(builder=partial(builder, weights=None, **_undecided(builder)), input_shape=shape)


def from_timm(name: str) -> Architecture:
    """Return timm's model `name`; raises InputError for an unknown name and where timm is not installed."""
    try:
        import timm
    except ImportError:
        raise InputError(f"timm:{name}: timm is not installed", hint="pip install 'model-surgery[timm]'") from None
    # Registered names only: timm would take `hf-hub:...` to the network. What follows a dot names weights.
    if not timm.is_model(name.partition(".")[0]):
        raise _unknown(f"timm:{name}", name, timm.list_models())
    try:
        shape = getattr(timm.get_pretrained_cfg(name), "input_size", None)
    except RuntimeError:
        raise _unknown(f"timm:{name}", name, timm.list_pretrained()) from None
    return Architecture(
        builder=partial(timm.create_model, name, pretrained=False),
        input_shape=(shape[0], shape[1], shape[2]) if shape is not None and len(shape) == 3 else None,
    )


def _undecided(builder: Callable[..., nn.Module]) -> dict[str, Any]:
    """Decide `init_weights` for the constructors that warn about its default, which is None only in those."""
    made = typing.get_type_hints(builder).get("return")
    parameter = inspect.signature(made).parameters.get("init_weights") if inspect.isclass(made) else None
    return {"init_weights": False} if parameter is not None and parameter.default is None else {}


def _crop_shape(transforms: Any) -> Shape | None:
    """The crop of the preprocessing that belongs to a model's published weights is the input it was trained on."""
    crop = getattr(transforms, "keywords", {}).get("crop_size")
    return (3, crop, crop) if isinstance(crop, int) else None


def _unknown(full_name: str, name: str, known: Iterable[str]) -> InputError:
    return InputError(f"{full_name}: unknown architecture", hint=suggest(name, known))

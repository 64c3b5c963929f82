"""Published weights of torchvision and timm, which these libraries download into the user's cache on request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from surgery.errors import InputError, suggest
from surgery.models.sources import from_timm, from_torchvision

Published = tuple[Callable[..., nn.Module], dict[str, list[float]] | None]
"""A builder that loads published weights, and their normalization as the argument `normalize`."""

DEFAULT = "DEFAULT"
"""The weights that the library recommends."""


def published_by_torchvision(name: str, weights: str) -> Published:
    """torchvision's `name` with its `weights`, such as IMAGENET1K_V2; raises InputError for unknown ones."""
    from torchvision import models

    from_torchvision(name)  # raises for an unknown name
    known = models.get_model_weights(name)
    if weights not in known.__members__:
        raise _unknown(f"torchvision:{name}", weights, list(known.__members__))
    chosen = known[weights]
    progress = sys.stderr.isatty()
    return (
        _downloading(models.get_model_builder(name), weights=chosen, progress=progress),
        _normalization(vars(chosen.transforms())),
    )


def published_by_timm(name: str, weights: str) -> Published:
    """timm's `name` with its `weights`, a tag such as a1_in1k; raises InputError for unknown ones."""
    from_timm(name)  # raises for an unknown name, and says how to install timm
    import timm

    model, _, tag = name.partition(".")
    known = [found.partition(".")[2] for found in timm.list_pretrained(f"{model}.*")]
    if not known or (weights != DEFAULT and weights not in known) or (tag and weights not in (DEFAULT, tag)):
        raise _unknown(f"timm:{name}", weights, [tag] if tag else known)
    full = name if weights == DEFAULT else f"{model}.{weights}"
    settings = timm.get_pretrained_cfg(full)
    assert settings is not None, "weights that are published have a configuration"

    def build(**arguments: Any) -> nn.Module:
        # timm would put an untrained layer in the place of the last one, without a word.
        classes = arguments.get("num_classes", settings.num_classes)
        if classes != settings.num_classes:
            raise ValueError(f"the published weights are for {settings.num_classes} classes")
        return timm.create_model(full, pretrained=True, **arguments)

    return _downloading(build), _normalization(vars(settings))


def _downloading(builder: Callable[..., nn.Module], **fixed: Any) -> Callable[..., nn.Module]:
    """`builder`, whose failed download is an InputError."""

    def build(**arguments: Any) -> nn.Module:
        try:
            return builder(**fixed, **arguments)
        except OSError as error:  # of urllib and of the hub's client
            raise InputError(
                f"the published weights could not be downloaded: {type(error).__name__}: {error}",
                hint="is this machine connected? A file of weights that was downloaded elsewhere can be given instead",
            ) from error

    return build


def _normalization(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
    mean, std = settings.get("mean"), settings.get("std")
    return None if mean is None or std is None else {"mean": list(mean), "std": list(std)}


def _unknown(name: str, weights: str, known: list[str]) -> InputError:
    names = [DEFAULT, *(item for item in known if item != DEFAULT)]
    hint = suggest(weights, names) or f"known are {', '.join(names)}"
    return InputError(f"{name}: unknown weights {weights!r}", hint=hint if known else "none are published")

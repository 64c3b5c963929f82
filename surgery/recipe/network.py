"""The tables `[data]` and `[model]` of a recipe."""

from __future__ import annotations

import functools
import inspect
import json
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationInfo, field_validator

from surgery.data import DATASETS, SOURCES
from surgery.errors import InputError, suggest
from surgery.models import architectures, build
from surgery.models.registry import find
from surgery.recipe.fields import Count, Folder, Immaterial, Seed, Table, Values, checked
from surgery.validation import refusal


def _check_data_set(name: str) -> None:
    if name not in DATASETS:
        hint = suggest(name, DATASETS) or f"there are {', '.join(DATASETS)}"
        raise InputError(f"no data set is called {name!r}", hint=hint)


class DataTable(Table):
    """The images that all stages of the recipe see."""

    name: Annotated[str, checked(_check_data_set)] = Field(
        description="Data set.", json_schema_extra={"enum": list(DATASETS)}
    )
    root: Annotated[Folder | None, Immaterial()] = Field(
        default=None,
        description="Folder of its files, from where the recipe stands; `$SURGERY_DATA` by default, or `data`.",
    )
    download: Annotated[bool, Immaterial()] = Field(
        default=False, description="Download the files if they are missing."
    )
    validation: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Share of the training images that is held out."
    )
    train_size: Count | None = Field(default=None, description="Training images to take; all by default.")
    test_size: Count | None = Field(default=None, description="Test images to take; all by default.")
    image_size: Count | None = Field(default=None, description="Side to which images are resized, in pixels.")
    seed: Seed = Field(
        default=0, description="Seed of what is held out and taken; the seed of [recipe] does not matter here."
    )
    parameters: Values = Field(default={}, description="More arguments of the data set, such as those of `planted`.")

    @field_validator("parameters")
    @classmethod
    def _are_known(cls, parameters: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        known = set() if name is None else set(inspect.signature(SOURCES[name]).parameters) - cls.model_fields.keys()
        for key in parameters if name is not None else ():
            if key not in known:
                hint = suggest(key, known) or (f"it takes {', '.join(sorted(known))}" if known else "it takes none")
                raise refusal(f"{name} takes no parameter {key!r}", hint=hint, key=key)
        return parameters


class NormalizationTable(Table):
    """Normalization of the input as a layer of the network; attacks see images in [0, 1] all the same."""

    mean: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] = Field(description="Mean of each channel.")
    std: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] = Field(
        description="Standard deviation of each channel."
    )


class NetworkTable(Table):
    """A network by name. Its number of classes, channels and input size are those of the data."""

    architecture: Annotated[str, checked(find)] = Field(
        description="surgery's own by name, others as torchvision:NAME or timm:NAME.",
        json_schema_extra={"examples": [*architectures()]},
    )
    arguments: Values = Field(default={}, description="Keyword arguments of the architecture, such as `width`.")
    normalize: NormalizationTable | None = Field(
        default=None, description="Normalization as a first layer; none by default."
    )

    @field_validator("arguments")
    @classmethod
    def _fit(cls, arguments: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("architecture")
        if "num_classes" in arguments:
            raise refusal("num_classes is that of the data set", key="num_classes")
        if name is not None:
            _check_arguments(name, json.dumps(arguments))
        return arguments


@functools.lru_cache(maxsize=256)
def _check_arguments(name: str, arguments: str) -> None:
    """Build the network without memory for its weights, which shows whether it can be built."""
    given = json.loads(arguments)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            build(name, **given)
    except InputError as error:
        key = next((key for key in given if key in error.message.split(" (")[0].split()), "")
        raise refusal(error.message, hint=error.hint, key=key) from None

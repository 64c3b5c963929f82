"""The tables `[data]` and `[model]` of a recipe, and the data set and network that they describe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import nn

from surgery.data import DATASETS, Dataset, load
from surgery.data.sources import check_dataset
from surgery.errors import InputError
from surgery.models import architectures, build
from surgery.models.registry import check_architecture, find, user_reference
from surgery.plugins import ArgumentError
from surgery.stages.fields import (
    Count,
    ExtensionName,
    Folder,
    Immaterial,
    KnownHierarchy,
    Seed,
    Table,
    Values,
    checked,
    known_hierarchy,
)
from surgery.validation import refusal


def _check_data_set(name: str) -> None:
    """Check the name by itself: a parameter that does not fit is refused at its own key."""
    with suppress(ArgumentError):
        check_dataset(name, ())


class DataTable(Table):
    """The data set of all stages of the recipe."""

    heading: ClassVar[str] = "`[data]`"

    name: Annotated[str, ExtensionName(group="surgery.datasets"), checked(_check_data_set)] = Field(
        description="Data set; one of your own is `package.module:name`.",
        json_schema_extra={"anyOf": [{"enum": list(DATASETS)}, {"pattern": ":"}]},
    )
    root: Annotated[Folder | None, Immaterial()] = Field(
        default=None,
        description="Folder of its files, relative to the recipe; `$SURGERY_DATA` by default, or `data`.",
    )
    download: Annotated[bool, Immaterial()] = Field(
        default=False, description="Download the files if they are missing."
    )
    validation: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.05, description="Share of the training images that is held out."
    )
    train_size: Count | None = Field(default=None, description="Training images to take; all by default.")
    test_size: Count | None = Field(default=None, description="Test images to take; all by default.")
    image_size: Count | None = Field(default=None, description="Side to which images are resized, in pixels.")
    seed: Seed = Field(
        default=0, description="Seed that selects the images taken and held out; the seed of [recipe] has no effect."
    )
    parameters: Values = Field(default={}, description="More arguments of the data set, such as those of `planted`.")
    hierarchy: KnownHierarchy | None = Field(
        default=None,
        description="Known superclasses: a file, or `cifar10`, `cifar100`, `stl10`; the data set's own by default.",
    )

    @field_validator("image_size")
    @classmethod
    def _is_taken(cls, image_size: int | None, info: ValidationInfo) -> int | None:
        if "name" in info.data:
            _as_refusal(lambda: check_dataset(info.data["name"], image_size=image_size))
        return image_size

    @field_validator("parameters")
    @classmethod
    def _are_known(cls, parameters: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "name" in info.data:
            _as_refusal(lambda: check_dataset(info.data["name"], parameters))
        return parameters

    def load(self, *, download: bool = False) -> Dataset:
        """The data set, with the known superclasses that the table names."""
        return self.with_hierarchy(self.load_images(download=download))

    def with_hierarchy(self, data: Dataset) -> Dataset:
        """`data` with the known superclasses that the table names; raises InputError where they do not fit."""
        if self.hierarchy is None:
            return data
        return replace(data, hierarchy=known_hierarchy(self.hierarchy, data.class_names))

    def load_images(self, *, download: bool = False) -> Dataset:
        """The data set as it is loaded, with its own superclasses."""
        return load(
            self.name,
            self.root,
            download=download or self.download,
            validation=self.validation,
            train_size=self.train_size,
            test_size=self.test_size,
            image_size=self.image_size,
            seed=self.seed,
            **self.parameters,
        )


class NormalizationTable(Table):
    """Normalization of the input as a layer of the network; attacks still see images in [0, 1]."""

    heading: ClassVar[str] = "`normalize`"

    mean: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] = Field(description="Mean of each channel.")
    std: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] = Field(
        description="Standard deviation of each channel."
    )


def _check_name(name: str) -> None:
    """Check the name by itself: an argument that does not fit is refused at its own key."""
    if user_reference(name) is None:
        find(name)
    else:
        with suppress(ArgumentError):
            check_architecture(name, {})


class NetworkTable(Table):
    """A network by name. Its number of classes, channels and input size are those of the data."""

    heading: ClassVar[str] = "`[model]` and `network`"

    architecture: Annotated[str, ExtensionName(group="surgery.architectures"), checked(_check_name)] = Field(
        description="surgery's own by name; others as torchvision:NAME or timm:NAME; yours as `package.module:name`.",
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
            raise refusal("num_classes follows from the data set", key="num_classes")
        if name is not None:
            _as_refusal(lambda: check_architecture(name, arguments))
        return arguments


def _as_refusal(check: Callable[[], None]) -> None:
    """Call `check` and turn its ArgumentError into a refusal of the key that it names."""
    try:
        check()
    except ArgumentError as error:
        raise refusal(error.message, hint=error.hint, key=error.key) from None
    except InputError as error:
        raise refusal(error.message, hint=error.hint) from None


def network_arguments(table: NetworkTable, data: Dataset) -> dict[str, Any]:
    """The arguments of a network for `data`: those of the table, and channels, size and classes of the images."""
    channels, height, width = data.input_shape
    takes = inspect.signature(find(table.architecture).builder).parameters
    fitting: dict[str, int] = {"in_channels": channels, "in_chans": channels, "input_size": height}
    if width != height:
        fitting["input_width"] = width
    # torchvision's and timm's builders take it among their **kwargs; a user's function may have no use for it.
    counts = user_reference(table.architecture) is None or "num_classes" in takes
    normalize = {} if table.normalize is None else {"normalize": table.normalize.model_dump(mode="json")}
    return {
        **{key: value for key, value in fitting.items() if key in takes},
        **({"num_classes": data.num_classes} if counts else {}),
        **table.arguments,
        **normalize,
    }


def make_network(table: NetworkTable, data: Dataset, *, seed: int) -> nn.Module:
    """The network with random weights drawn from `seed`; the global random state stays as it was."""
    # Initializers draw from the global generator, whatever torch offers besides.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(table.architecture, **network_arguments(table, data))

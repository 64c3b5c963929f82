"""What the tables of a recipe are made of: types of fields with checks, and markers that say what a text means."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from surgery.attack import pixels
from surgery.errors import InputError, suggest
from surgery.hierarchy.clustering import Choice
from surgery.validation import refusal, shown

StageKind = Literal["train", "linearize", "extract", "cluster", "features", "attack", "confusion", "report"]


class Table(BaseModel):
    """A table of a recipe: no unknown keys, no conversions, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def as_validator(make: Callable[[], object]) -> None:
    """Call `make`, and say what its InputError says, about the key with which its message begins if there is one."""
    try:
        make()
    except InputError as error:
        raise refusal(error.message, hint=error.hint, key=error.message.split(" ")[0]) from None


class ValueTable(Table, ABC):
    """A table that stands for a value of the library, which checks what no single key shows."""

    @abstractmethod
    def value(self) -> object:
        """The value; raises InputError where the keys do not go together."""

    @model_validator(mode="after")
    def _makes_a_value(self) -> Self:
        as_validator(self.value)
        return self


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Marks a text that names a stage of one of `kinds`; of `checkpoint`, also as NAME.best or NAME.last.

    `or_hierarchy`: what is no stage is a known hierarchy, a file of one, or `data` for that of the data set.
    """

    kinds: tuple[StageKind, ...]
    checkpoint: bool = False
    or_hierarchy: bool = False


@dataclass(frozen=True, kw_only=True)
class FilePath:
    """Marks the path of a file or folder, which starts where the recipe stands; with `suffixes`, only texts that end
    with one of them are paths. `content`: a stage's key depends on what the file holds, so it has to be there.
    """

    suffixes: tuple[str, ...] = ("",)
    content: bool = True

    def fits(self, text: str) -> bool:
        """Whether `text` is a path, and no name."""
        return text.endswith(self.suffixes)


@dataclass(frozen=True)
class RuleSetName:
    """Marks the name or path of a ruleset."""


@dataclass(frozen=True)
class Immaterial:
    """Marks what does not change a result, so that keys leave it out."""


def checked(check: Callable[[Any], Any]) -> AfterValidator:
    """A validator that says what the InputError of `check` says."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except InputError as error:
            raise refusal(error.message, hint=error.hint) from None
        return value

    return AfterValidator(validate)


def _read_pixels(value: Any) -> float:
    try:
        return pixels(value, what="it")
    except (InputError, OverflowError):
        message = f"expected a number of at least 0 or a fraction, got {shown(value)}"
        raise refusal(message, hint='as in 0.03 or "8/255"') from None


def _check_plain(value: Any) -> None:
    """Only what JSON can hold too."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, (dict, list)):
            left += item.values() if isinstance(item, dict) else item
        elif not isinstance(item, (bool, int, float, str)):
            raise InputError(f"dates and times mean nothing here, got {item}")
        elif isinstance(item, float) and not math.isfinite(item):
            raise InputError(f"expected finite numbers, got {item}")


def check_path(value: str) -> None:
    if not value or "\0" in value:
        raise InputError(f"expected a path, got {shown(value)}")


def _check_name(value: str) -> None:
    if not re.fullmatch(_NAME, value):
        raise InputError(f"{shown(value)} is no name", hint="a letter first, then letters, digits, _ and -; 60 at most")


def _check_superclasses(value: Any) -> None:
    if isinstance(value, bool) or not (
        value in _CHOICES if isinstance(value, str) else isinstance(value, int) and value >= 1
    ):
        hint = suggest(value, _CHOICES) if isinstance(value, str) else None
        raise InputError(f"expected an integer of at least 1, 'gap' or 'silhouette', got {shown(value)}", hint=hint)


_NAME = "[A-Za-z][A-Za-z0-9_-]{0,59}"
_CHOICES = get_args(Choice)
_FRACTION = r"^\s*[0-9.eE+-]+\s*(/\s*[0-9.eE+-]+\s*)?$"

Pixels = Annotated[
    float,
    BeforeValidator(_read_pixels),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _FRACTION}]}),
]
"""A size in units where pixels run from 0 to 1: a number, or a fraction as `"8/255"`."""

LARGEST = 2**53
"""Whole numbers up to here are exact in JSON and TOML readers alike."""

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=LARGEST)]
Name = Annotated[str, checked(_check_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})]
Superclasses = Annotated[
    Any,
    checked(_check_superclasses),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": list(_CHOICES)}]}),
]
Path = Annotated[str, FilePath(), checked(check_path)]
Folder = Annotated[str, FilePath(content=False), checked(check_path)]
Values = Annotated[dict[str, Any], checked(_check_plain)]
"""Keys and plain values that another part of surgery checks."""

ModelReference = Annotated[str, Reference(kinds=("train",), checkpoint=True)]
HierarchyReference = Annotated[
    str, Reference(kinds=("cluster",), or_hierarchy=True), FilePath(suffixes=(".toml", ".json")), checked(check_path)
]

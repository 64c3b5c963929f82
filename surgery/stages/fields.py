"""Building blocks of a recipe's tables: field types with checks, and markers that say what a text refers to."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from surgery.attack import pixels
from surgery.errors import InputError, suggest
from surgery.hierarchy import NAMED, Hierarchy, load_hierarchy, named
from surgery.hierarchy.clustering import Choice
from surgery.plugins import ArgumentError, check_arguments, locate, reference_of, registered
from surgery.validation import refusal, shown


class Table(BaseModel):
    """A table of a recipe: unknown keys are refused, values are not converted, and instances cannot be changed.

    `heading`: the title of the table's section in the recipe reference.
    """

    heading: ClassVar[str] = ""
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def as_validator(make: Callable[[], object], keys: Container[str] = ()) -> None:
    """Call `make` and turn its InputError into a refusal of the first of `keys` that its message names."""
    try:
        make()
    except InputError as error:
        named = (word for word in re.findall(r"\w+", error.message) if word in keys)
        raise refusal(error.message, hint=error.hint, key=next(named, "")) from None


class ValueTable(Table, ABC):
    """A table that describes a value of the library; making the value checks that the keys fit together."""

    @abstractmethod
    def value(self) -> object:
        """Return the value; raises InputError where the keys contradict each other."""

    @model_validator(mode="after")
    def _makes_a_value(self) -> Self:
        as_validator(self.value, type(self).model_fields)
        return self


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Marks a text that names a stage of one of `kinds`; an empty tuple stands for every kind that is not a report.

    `checkpoint`: NAME.best and NAME.last are accepted too. `or_hierarchy`: other texts name a known hierarchy, a file
    of one, or `data` for the hierarchy of the data set.
    """

    kinds: tuple[str, ...]
    checkpoint: bool = False
    or_hierarchy: bool = False


@dataclass(frozen=True, kw_only=True)
class FilePath:
    """Marks the path of a file or folder, relative to the recipe's folder.

    `suffixes`: only texts that end with one of them are paths. `content`: the content of the file is part of a stage's
    key, so the file must exist.
    """

    suffixes: tuple[str, ...] = ("",)
    content: bool = True

    def fits(self, text: str) -> bool:
        """Whether `text` is a path rather than a name."""
        return text.endswith(self.suffixes)


@dataclass(frozen=True)
class HierarchyFile:
    """Marks a text that may be the file of a known hierarchy."""


@dataclass(frozen=True)
class RuleSetName:
    """Marks the name or path of a ruleset."""


@dataclass(frozen=True)
class Immaterial:
    """Marks a field that does not affect results; stage keys ignore it."""


@dataclass(frozen=True, kw_only=True)
class ExtensionName:
    """Marks a text that may name an extension: `package.module:name`, or an entry point of `group`.

    The source of the extension's module is part of a stage's key.
    """

    group: str


def checked(check: Callable[[Any], Any]) -> AfterValidator:
    """Make a validator that calls `check` and turns its InputError into a refusal."""

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


def check_plain(value: Any) -> None:
    """Accept values that JSON can hold as well."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, (dict, list)):
            left += item.values() if isinstance(item, dict) else item
        elif not isinstance(item, (bool, int, float, str)):
            raise InputError(f"expected numbers, texts, lists and tables, got the date or time {item}")
        elif isinstance(item, float) and not math.isfinite(item):
            raise InputError(f"expected finite numbers, got {item}")
        elif isinstance(item, int) and abs(item) > LARGEST:
            raise InputError(f"expected whole numbers of at most {LARGEST}, got {shown(item)}")


def check_extension(text: str, group: str, arguments: Iterable[str], *, known: Iterable[str], what: str) -> None:
    """Refuse the `kind` of a table, which is `text`, or one of its other keys, if it does not fit an extension.

    `known`: the kinds that are not extensions. Nothing is imported.
    """
    reference = reference_of(text, group)
    if reference is None:
        names = [*known, *registered(group)]
        hint = suggest(text, names) or f"there are {', '.join(names)}; an extension is package.module:name"
        raise refusal(f"unknown {what} {shown(text)}", hint=hint, key="kind")
    try:
        check_arguments(text, locate(reference).signature, arguments)
    except ArgumentError as error:
        raise refusal(error.message, hint=error.hint, key=error.key) from None
    except InputError as error:
        raise refusal(error.message, hint=error.hint, key="kind") from None


def known_hierarchy(text: str, class_names: Sequence[str]) -> Hierarchy:
    """The known hierarchy of these classes that `text` names: one of surgery's own, or a file.

    Raises InputError where there is none, where the file is wrong, and for a class that the hierarchy does not have.
    """
    found = named(text) if text in NAMED else load_hierarchy(text)
    known = set(found.class_names)
    missing = [name for name in class_names if name not in known]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        hint = suggest(missing[0], found.class_names) or f"it has {', '.join(found.class_names[:5])}, ..."
        what = f"{os.path.basename(text)} has no superclass for the class {missing[0]!r}{more} of the data"  # noqa: PTH119
        raise InputError(what, hint=hint)
    return found.for_classes(class_names)


def _check_known_hierarchy(text: str) -> None:
    check_path(text)
    if not text.endswith(HIERARCHY_SUFFIXES):
        named(text)


def check_path(value: str) -> None:
    if not value or "\0" in value:
        raise InputError(f"expected a path, got {shown(value)}")


def _check_name(value: str) -> None:
    if not re.fullmatch(_NAME, value):
        raise InputError(
            f"{shown(value)} is not a valid name",
            hint="use a letter first, then letters, digits, _ and -; 60 characters at most",
        )


def _check_superclasses(value: Any) -> None:
    if isinstance(value, bool) or not (
        value in _CHOICES if isinstance(value, str) else isinstance(value, int) and value >= 1
    ):
        hint = suggest(value, _CHOICES) if isinstance(value, str) else None
        raise InputError(f"expected an integer of at least 1, 'gap' or 'silhouette', got {shown(value)}", hint=hint)


DATA = "data"
"""The name by which a recipe refers to the hierarchy of its data set."""

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
Values = Annotated[dict[str, Any], checked(check_plain)]
"""Keys and plain values; the part of surgery that they are passed to checks them."""

ModelReference = Annotated[str, Reference(kinds=("train",), checkpoint=True)]

HIERARCHY_SUFFIXES = (".toml", ".json")
"""The ends of the names of files that hold a hierarchy."""

HierarchyReference = Annotated[
    str,
    Reference(kinds=("cluster",), or_hierarchy=True),
    FilePath(suffixes=HIERARCHY_SUFFIXES),
    HierarchyFile(),
    checked(check_path),
]
KnownHierarchy = Annotated[str, FilePath(suffixes=HIERARCHY_SUFFIXES), HierarchyFile(), checked(_check_known_hierarchy)]
"""The name of a known hierarchy, or the file of one."""

"""Tables checked by pydantic: its errors in words, with their location in the data and the nearest valid names.

The key `kind` selects the model of a table that has several forms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from surgery.errors import suggest
from surgery.toml import Location, TomlDocument

MOST_UNKNOWN = 10
"""The most unknown keys of one table that are reported, each with its place; a count stands for the others."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A mistake in the value at `location`, or in its key."""

    location: Location
    message: str
    hint: str | None = None
    on_key: bool = False

    def point(self, document: TomlDocument) -> str:
        """The finding with file:line:column, the line and a caret."""
        find = document.key_position if self.on_key else document.position
        return find(self.location).point(self.text)

    @property
    def text(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, kw_only=True)
class Visited:
    """A value of the data with its part of the schema.

    `model`: the model of a table. `kinds`: the valid kinds of a table that has an unknown kind. `markers`: those
    of the field's `Annotated`.
    """

    location: Location
    value: Any
    model: type[BaseModel] | None = None
    kinds: tuple[str, ...] = ()
    markers: tuple[Any, ...] = ()


def refusal(message: str, *, hint: str | None = None, key: str = "") -> PydanticCustomError:
    """The error that a validator raises for a `message` of its own, about `key` if the table has it."""
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint, "key": key})


def findings(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> list[Finding]:
    """All mistakes that `error` reports in `data`, which should be a `model`."""
    tables = {visited.location: visited for visited in visit(model, data)}
    found, unknown = list[Finding](), Counter[Location]()
    for item in error.errors(include_url=False):
        if item["type"] == "extra_forbidden":
            unknown[item["loc"][:-1]] += 1
            if unknown[item["loc"][:-1]] > MOST_UNKNOWN:  # of another kind of file, or hostile
                continue
        found.append(_finding(item, data, tables))
    for table, count in unknown.items():
        if count > MOST_UNKNOWN:
            location = _in_data(table, data)
            found.append(Finding(location=location, message=f"{count - MOST_UNKNOWN} more unknown keys in this table"))
    return found


def visit(annotation: Any, value: Any, location: Location = ()) -> Iterator[Visited]:
    """Visit `value` together with its expected type, as far as the two agree."""
    annotation, markers = _unwrap(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield Visited(location=location, value=value, model=annotation, markers=markers)
        if isinstance(value, Mapping):
            for name, field in annotation.model_fields.items():
                if name in value:
                    inner = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
                    yield from visit(inner, value[name], (*location, name))
    elif get_origin(annotation) in (Union, UnionType):
        yield from _visit_union(get_args(annotation), value, location, markers)
    else:
        yield Visited(location=location, value=value, markers=markers)
        for part, item, inner in _elements(annotation, value):
            yield from visit(inner, item, (*location, part))


def kinds(model: type[BaseModel]) -> tuple[str, ...]:
    """The values of `kind` that select a model."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def shown(value: Any) -> str:
    """A value in messages: as in TOML, shortened; a table or a list only by its type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value) if isinstance(value, (str, int, float)) else str(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    markers: tuple[Any, ...] = ()
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        markers = (*more, *markers)
    return annotation, markers


def _visit_union(
    members: tuple[Any, ...], value: Any, location: Location, markers: tuple[Any, ...]
) -> Iterator[Visited]:
    plain = [member for member in members if member is not type(None)]
    models = [member for member, _ in map(_unwrap, plain) if isinstance(member, type) and issubclass(member, BaseModel)]
    if len(plain) == 1:
        yield Visited(location=location, value=value, markers=markers)
        yield from visit(plain[0], value, location)
    elif len(models) == len(plain) and isinstance(value, Mapping):
        chosen = [model for model in models if value.get("kind", _default_kind(model)) in kinds(model)]
        if not chosen and isinstance(value.get("kind"), str):  # the table of extensions takes any text as its kind
            chosen = [model for model in models if "kind" in model.model_fields and not kinds(model)]
        if chosen:
            yield from visit(Annotated[(chosen[0], *markers)] if markers else chosen[0], value, location)
        else:
            options = tuple(kind for model in models for kind in kinds(model))
            yield Visited(location=location, value=value, kinds=options, markers=markers)


def _default_kind(model: type[BaseModel]) -> Any:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _elements(annotation: Any, value: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """The keys or indices of a table or list of values of one type, with the values and their types."""
    arguments = get_args(annotation)
    if get_origin(annotation) is dict and isinstance(value, Mapping):
        yield from ((name, item, arguments[1]) for name, item in value.items())
    elif get_origin(annotation) in (tuple, list) and isinstance(value, (list, tuple)):
        repeated = len(arguments) == 1 or arguments[-1] is Ellipsis
        for index, item in enumerate(value):
            if repeated or index < len(arguments):
                yield index, item, arguments[0 if repeated else index]


def _finding(item: ErrorDetails, data: Mapping[str, Any], tables: Mapping[Location, Visited]) -> Finding:
    location = _in_data(item["loc"], data, missing=item["type"] == "missing")
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(location, tables.get(location[:-1]))
    if kind == "missing":
        return Finding(location=location[:-1], message=f"the key {location[-1]!r} is missing")
    if kind == "union_tag_not_found":
        options = tables[location].kinds if location in tables else ()
        named = f": one of {', '.join(options)}" if options else ""
        return Finding(location=location, message=f"the key 'kind' is missing{named}")
    if kind == "union_tag_invalid":
        return _choice((*location, "kind"), context["tag"], re.findall(r"'([^']*)'", context["expected_tags"]))
    if kind == "literal_error":
        return _choice(location, item["input"], re.findall(r"'([^']*)'", context["expected"]))
    on_key = item["loc"][-1:] == ("[key]",)
    if kind == "refused":
        message = context["message"]
        # A message about an unknown name says what it is the name of.
        if not (context["key"] or on_key or message.startswith(("unknown ", f"{item['input']}: "))):
            message = _at(location, message)
        inside = isinstance(item["input"], Mapping) and context["key"] in item["input"]
        location = (*location, context["key"]) if inside else location
        return Finding(location=location, message=message, hint=context["hint"], on_key=on_key)
    expected = _expected(kind, context)
    got = shown(item["input"])
    message = f"expected {expected}, got {got}" if expected else f"{item['msg']}, got {got}"
    return Finding(location=location, message=_at(location, message), on_key=on_key)


def _in_data(location: Location, data: Any, *, missing: bool = False) -> Location:
    """The location in the data: pydantic's, without the names of union members; `missing`: its last key is missing."""
    kept: list[str | int] = []
    for number, part in enumerate(location, start=1):
        items: Any = data if isinstance(data, Mapping) else dict(enumerate(data)) if isinstance(data, list) else {}
        inside = part in items
        if inside:
            data = items[part]
        if inside or (missing and number == len(location)):
            kept.append(part)
    return tuple(kept)


def _at(location: Location, message: str) -> str:
    names = [str(part) for part in location if isinstance(part, str)]
    return f"{names[-1]}: {message}" if names else message


def _unknown(location: Location, table: Visited | None) -> Finding:
    known = list(table.model.model_fields) if table is not None and table.model is not None else []
    hint = suggest(str(location[-1]), known) or (f"known are {', '.join(known)}" if known else None)
    return Finding(location=location, message=f"unknown key {location[-1]!r}", hint=hint, on_key=True)


def _choice(location: Location, value: Any, options: list[str]) -> Finding:
    message = _at(location, f"expected {_either([repr(option) for option in options])}, got {shown(value)}")
    return Finding(location=location, message=message, hint=suggest(str(value), options))


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


_TYPES = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), "a table"),
}

_BOUNDS: dict[str, tuple[str, Literal["gt", "ge", "lt", "le"]]] = {
    "greater_than": ("a number above", "gt"),
    "greater_than_equal": ("a number of at least", "ge"),
    "less_than": ("a number below", "lt"),
    "less_than_equal": ("a number of at most", "le"),
}


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = context[key]
        return f"{words} {bound if isinstance(bound, int) else f'{bound:g}'}"
    if kind == "too_short":
        return f"at least {context['min_length']} in the list"
    if kind == "too_long":
        return f"at most {context['max_length']} in the list"
    return _TYPES.get(kind)

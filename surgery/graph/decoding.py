"""From the header of a saved graph to the graph: each word of the file is checked before it is used."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import fx

from surgery.errors import ModelFileError, printable
from surgery.graph.builder import Builder, Place, UnsupportedError
from surgery.graph.graph import TENSOR_PATH, Edit, Graph, valid_class_names
from surgery.graph.overloads import overload_called
from surgery.graph.schema import check_call
from surgery.graph.vocabulary import OPERATIONS

FORMAT = "surgery-graph"
VERSION = 1
TORCH_VALUES = (torch.dtype, torch.memory_format, torch.layout)
"""The types of torch's constants, which files name."""
_LONGEST_NAME = 1000


def check_header(path: Path, header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"{path}: a safetensors file, but not a saved graph")
    version = header.get("version")
    if type(version) is not int or version > VERSION:
        raise ModelFileError(
            f"{path}: written in version {printable(version)} of the format; this surgery reads up to {VERSION}",
            hint="upgrade surgery",
        )
    for key, (words, accepts) in _HEADER.items():
        if not accepts(header.get(key)):
            raise ModelFileError(
                f"{path}: damaged graph: {key} should be {words}, got {printable(repr(header.get(key)), 80)}"
            )


def _is_table_of(kind: type, value: Any) -> bool:
    return isinstance(value, dict) and all(type(item) is kind for item in value.values())


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) < 8 and all(type(size) is int and 0 < size < 2**31 for size in value)


_HEADER: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "input_shape": ("sizes of at least 1", _is_shape),
    "rung": ("a name", lambda value: isinstance(value, str)),
    "model": ("a name", lambda value: isinstance(value, str)),
    "parameters": ("a table of true and false", partial(_is_table_of, bool)),
    "aliases": ("a table of names", partial(_is_table_of, str)),
    "nodes": ("a list of tables", _is_list_of_tables),
    "log": ("a list of tables", _is_list_of_tables),
}
"""The entries of the header: their values in words, and as a test."""


def decode(header: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> Graph:
    trainable: dict[str, bool] = header["parameters"]
    owned = {
        name: torch.nn.Parameter(tensor, trainable[name]) if name in trainable else tensor
        for name, tensor in tensors.items()
    }
    owned |= {name: owned[source] for name, source in header["aliases"].items()}
    input_shape = tuple(header["input_shape"])
    builder = Builder()
    nodes: dict[str, fx.Node] = {}
    # The builder computes kinds and shapes again instead of believing the file.
    for entry in header["nodes"]:
        try:
            nodes[entry["name"]] = _decode_node(entry, nodes, builder, owned, input_shape)
        except UnsupportedError as error:
            raise UnsupportedError(f"node {entry['name']!r}: {error}") from error
        # torch's shape functions raise nearly anything for operands and attributes that do not fit together.
        except Exception as error:
            what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise UnsupportedError(
                f"node {entry.get('name')!r} ({entry.get('operation')}) cannot be made: {what}"
            ) from error
    kinds = [node.op for node in builder.graph.nodes]
    if kinds.count("placeholder") != 1 or kinds[-1:] != ["output"] or kinds.count("output") != 1:
        raise UnsupportedError("expected one input, and one output at the end")
    return Graph(
        owned,
        builder.graph,
        input_shape=input_shape,
        rung=header["rung"],
        model_name=_identifier(header["model"]),
        log=tuple(map(_decode_edit, header["log"])),
        class_names=valid_class_names(header.get("class_names")),
    )


def _decode_edit(entry: Mapping[str, Any]) -> Edit:
    # JSON has lists only, and an edit holds tuples of pairs.
    pairs = {key: tuple((str(name), str(operation)) for name, operation in entry[key]) for key in ("removed", "added")}
    edit = Edit(**{**entry, **pairs})
    texts = (edit.rule, edit.ruleset, edit.at, edit.into, edit.module_path, edit.file or "")
    if not all(isinstance(text, str) for text in texts) or not isinstance(edit.line, (int, type(None))):
        raise UnsupportedError(f"an edit {printable(repr(entry), 80)}")
    return edit


def _decode_node(
    entry: dict[str, Any],
    nodes: dict[str, fx.Node],
    builder: Builder,
    tensors: dict[str, torch.Tensor],
    input_shape: tuple[int, ...],
) -> fx.Node:
    place = {key: entry[key] for key in ("module_path", "file", "line", "rule") if key in entry}
    if not all(isinstance(value, int if key == "line" else str) for key, value in place.items()):
        raise UnsupportedError(f"a position in the source {printable(repr(place), 80)}")
    builder.place = Place(**place)
    operation = entry["operation"]
    operands = [_decode_value(item, nodes) for item in entry.get("operands", [])]
    attributes = {key: _decode_value(value, nodes) for key, value in entry.get("attributes", {}).items()}
    name = _identifier(entry["name"])
    if operation == "input":
        return builder.input(name, input_shape, _decode_value(entry["dtype"], nodes))
    if operation == "parameter":
        # The path ends up in generated code, which must not run what a file says.
        if not TENSOR_PATH.fullmatch(entry["target"]):
            raise UnsupportedError(f"{entry['target']!r} is not the name of a tensor")
        return builder.parameter(entry["target"], tensors[entry["target"]], label=name)
    if operation == "output":
        return builder.output(operands[0])
    if operation in OPERATIONS:
        check_call(OPERATIONS[operation], operands, attributes)
        return builder.call(operation, operands, attributes, label=name)
    return builder.foreign(_overload(operation), tuple(operands), attributes, label=name)


def _overload(name: str) -> Any:
    """An ATen overload by name, if it computes on tensors only, the first of its arguments a tensor."""
    # The name comes from the file. Only `aten` is looked up, never another namespace or a Python attribute.
    found = re.fullmatch(r"aten\.(\w+)\.(\w+)", name)
    overload = overload_called("aten", *found.groups()) if found else None
    if overload is None or "Tensor" not in str(overload._schema.arguments[0].type):
        raise UnsupportedError(f"unknown operation {printable(name)!r}")
    return overload


def _identifier(name: str) -> str:
    """Names end up in generated code, so they have to be names."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or len(name) > _LONGEST_NAME:
        raise UnsupportedError(f"{printable(repr(name), 80)} is not a name")
    return name


def _decode_value(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_decode_value(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "float":
        return float.fromhex(content)
    if kind == "node":
        return nodes[content]
    if kind == "tuple":
        return tuple(_decode_value(item, nodes) for item in content)
    if kind == "slice":
        return slice(*[_decode_value(item, nodes) for item in content])
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        return torch.device(content)
    # A lookup in torch by a name from the file: the result is returned only if it is a constant, never a function.
    decoded = getattr(torch, content, None)
    if kind != "torch" or not isinstance(decoded, TORCH_VALUES):
        raise UnsupportedError(f"unknown value {value!r}")
    return decoded

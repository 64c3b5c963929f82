"""Saved graphs: a safetensors file with the weights, and nodes, history and provenance as JSON in its header.

Findings about a graph, such as its certificate, are written with a digest of nodes and weights. A file whose nodes or
weights were changed afterwards loads without it.

Loading runs no code of the file: nodes name operations of the vocabulary (or ATen overloads that compute on tensors),
and attributes are plain data. Neither pickle nor the class of the model is needed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import fx

from surgery.errors import InputError, ModelFileError, printable
from surgery.files import existing_file, write_atomically
from surgery.graph import safetensors_file
from surgery.graph.builder import Builder, Place, UnsupportedError
from surgery.graph.digests import Finding, content_digest, recall, remember
from surgery.graph.graph import TENSOR_PATH, Edit, Graph, valid_class_names
from surgery.graph.overloads import overload_called
from surgery.graph.vocabulary import OPERATIONS

FORMAT = "surgery-graph"
VERSION = 1


def save_graph(graph: Graph, path: str | Path) -> None:
    """Write `graph` to `path`, all or nothing: a file appears when it is complete.

    Raises InputError where the folder cannot be written.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in graph.tensors().items()}
    # safetensors refuses shared memory: tied tensors are written once, the others as names for the first.
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    kept: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and key in first:  # empty tensors share the null address without being tied
            aliases[name] = first[key]
        else:
            first[key] = name
            kept[name] = tensor
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "input_shape": list(graph.input_shape),
        "rung": graph.rung,
        "model": graph.model_name,
        "parameters": {name: tensor.requires_grad for name, tensor in graph.named_parameters(remove_duplicate=False)},
        "aliases": aliases,
        "nodes": [_encode_node(node) for node in graph.graph.nodes],
        "log": [dataclasses.asdict(edit) for edit in graph.log],
        **({} if graph.class_names is None else {"class_names": list(graph.class_names)}),
    }
    finding = recall(graph)
    if finding is not None:
        header["finding"] = {"content": finding, "digest": _digest(header, kept, finding)}
    text = json.dumps(header, separators=(",", ":"))
    write_atomically(path, save(kept, metadata={"surgery": text}))


def load_graph(path: str | Path) -> Graph:
    """Read a graph that `save_graph` wrote; outputs and log are those of the saved graph.

    Raises ModelFileError for a file that is missing, damaged, foreign, or of a newer format.
    """
    try:
        file = existing_file(path)
        content = file.read_bytes()
    except InputError as error:
        raise ModelFileError(error.message, hint=error.hint) from None
    return graph_from(file, content, safetensors_file.read_entry(file, content))


def graph_from(path: Path, content: bytes, header: Mapping[str, Any]) -> Graph:
    """Make the graph of a file that was read: its bytes, and surgery's entry in its header; raises ModelFileError."""
    try:
        _check_header(path, header)  # before the tensors: a large foreign file is refused without reading it
        tensors = safetensors_file.read_tensors(path, content)
        graph = _decode(header, tensors)
        finding = header.get("finding")
        if finding is not None and finding["digest"] == _digest(header, tensors, finding["content"]):
            remember(graph, finding["content"])
    except (KeyError, TypeError, AttributeError, UnsupportedError) as error:
        raise ModelFileError(f"{path}: not a saved graph, or damaged: {printable(error)}") from error
    return graph


def _digest(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], finding: Finding) -> str:
    """Binds a finding to everything that decides what the graph computes."""
    # Log and model name are left out: they say where the graph comes from, and do not change a result.
    decisive = {key: header[key] for key in ("input_shape", "aliases", "nodes")}
    return content_digest(decisive | {"finding": finding}, tensors.items())


def _encode_node(node: fx.Node) -> dict[str, Any]:
    meta = node.meta
    place = {key: meta[key] for key in ("module_path", "file", "line", "rule") if meta[key]}
    result = {"name": node.name, "operation": meta["operation"], **place}
    if node.op in ("placeholder", "get_attr"):
        result["target"] = str(node.target)
    if node.op == "placeholder":
        result["dtype"] = _encode(meta["dtype"])
    if node.args:
        result["operands"] = [_encode(item) for item in node.args]
    if node.kwargs:
        result["attributes"] = {key: _encode(value) for key, value in node.kwargs.items()}
    return result


_TORCH_VALUES = (torch.dtype, torch.memory_format, torch.layout)


def _encode(value: Any) -> Any:
    """Plain data as JSON, everything else as an object with one key that names its type."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}  # exact, and JSON has no infinity or NaN
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, slice):
        return {"slice": [_encode(item) for item in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, _TORCH_VALUES):
        return {"torch": str(value).removeprefix("torch.")}
    raise ModelFileError(f"a value of type {type(value).__name__} cannot be saved: {value!r}")


def _check_header(path: Path, header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"{path}: a safetensors file, but not a saved graph")
    if header["version"] > VERSION:
        raise ModelFileError(
            f"{path}: written in version {header['version']} of the format; this surgery reads up to {VERSION}",
            hint="upgrade surgery",
        )


def _decode(header: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> Graph:
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
        nodes[entry["name"]] = _decode_node(entry, nodes, builder, owned, input_shape)
    return Graph(
        owned,
        builder.graph,
        input_shape=input_shape,
        rung=header["rung"],
        model_name=_identifier(header["model"]),
        # JSON has lists only, and an edit holds tuples of pairs.
        log=tuple(
            Edit(**{**entry, **{key: tuple(map(tuple, entry[key])) for key in ("removed", "added")}})
            for entry in header["log"]
        ),
        class_names=valid_class_names(header.get("class_names")),
    )


def _decode_node(
    entry: dict[str, Any],
    nodes: dict[str, fx.Node],
    builder: Builder,
    tensors: dict[str, torch.Tensor],
    input_shape: tuple[int, ...],
) -> fx.Node:
    place = {key: entry[key] for key in ("file", "line", "rule") if key in entry}
    builder.place = Place(module_path=entry.get("module_path", ""), **place)
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
    if not isinstance(name, str) or not name.isidentifier():
        raise UnsupportedError(f"{name!r} is not a name")
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
    if kind != "torch" or not isinstance(decoded, _TORCH_VALUES):
        raise UnsupportedError(f"unknown value {value!r}")
    return decoded

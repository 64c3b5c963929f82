"""Saved graphs: a safetensors file with the weights, and nodes, history and provenance as JSON in its header.

Findings about a graph, such as its certificate, are written with a digest of nodes and weights. A file whose nodes or
weights were changed afterwards loads without it.

Loading runs no code of the file: nodes name operations of the vocabulary (or ATen overloads that compute on tensors),
and attributes are plain data. Neither pickle nor the class of the model is needed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import fx

from surgery.errors import InputError, ModelFileError, printable
from surgery.files import existing_file, write_atomically
from surgery.graph import safetensors_file
from surgery.graph.decoding import FORMAT, TORCH_VALUES, VERSION, check_header, decode
from surgery.graph.digests import Finding, content_digest, recall, remember
from surgery.graph.graph import Graph
from surgery.graph.memory import check_memory
from surgery.torch_state import torch_state


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


@torch_state(gradients=True)
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
    check_header(path, header)  # before the tensors: a large foreign file is refused without reading it
    tensors = safetensors_file.read_tensors(path, content)
    try:
        graph = decode(header, tensors)
        finding = header.get("finding")
        if finding is not None and finding["digest"] != _digest(header, tensors, finding["content"]):
            finding = None
    # Values of wrong types raise nearly anything where they are used.
    except Exception as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise ModelFileError(f"{path}: not a saved graph, or damaged: {printable(reason, 400)}") from error
    check_cost(path, graph)
    if finding is None:
        _check_by_running(path, graph)
    else:
        remember(graph, finding["content"])
    return graph


def check_cost(path: Path, graph: Graph) -> None:
    """Raise ModelFileError where one image takes more than the free memory, before any of it is used."""
    try:
        check_memory(graph, 1)
    except InputError as error:
        raise ModelFileError(f"{path}: {error.message}", hint="the file may be damaged") from None


def _check_by_running(path: Path, graph: Graph) -> None:
    """Raise ModelFileError where a graph without a certificate cannot compute: its shapes fit, its values may not."""
    # Tensors that a graph makes itself may belong to a device that this machine lacks, until the graph is moved.
    if any(isinstance(node.kwargs.get("device"), torch.device) for node in graph.graph.nodes):
        return
    source = next(node for node in graph.graph.nodes if node.op == "placeholder")
    try:
        with torch_state(gradients=False), torch.random.fork_rng(devices=[]):
            graph(torch.zeros((1, *graph.input_shape), dtype=source.meta["dtype"]))
    except Exception as error:
        text = printable(str(error).strip().partition("\n")[0])
        raise ModelFileError(f"{path}: not a saved graph, or damaged: it cannot be computed: {text}") from error


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
    if isinstance(value, TORCH_VALUES):
        return {"torch": str(value).removeprefix("torch.")}
    raise ModelFileError(f"a value of type {type(value).__name__} cannot be saved: {value!r}")

"""A graph as records: a complete description, without tensors, as plain data for JSON."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

from torch import fx

from surgery.graph.nodes import Described, computing, operation_name
from surgery.graph.views.text import named_operands, value_text


def describe(graph: Described) -> dict[str, Any]:
    """Everything about `graph` but the numbers in its tensors, for json.dumps."""
    return {
        "model": graph.model_name,
        "rung": graph.rung,
        "input_shape": list(graph.input_shape),
        "operations": dict(Counter(operation_name(node) for node in computing(graph)).most_common()),
        "parameters": sum(tensor.numel() for tensor in graph.parameters()),
        "log": [dataclasses.asdict(edit) for edit in graph.log],
        "nodes": as_records(graph),
    }


def as_records(graph: Described) -> list[dict[str, Any]]:
    """A record for every node, parameters too, for json.dumps.

    `operands` and `attributes` hold plain values, or `{"node": name}` where another node is read; `reads` lists the
    names of all nodes read, which are the edges of the graph.
    """
    return [_record(node) for node in graph.graph.nodes]


def _record(node: fx.Node) -> dict[str, Any]:
    meta = node.meta
    operands = named_operands(node) if node.op == "call_function" else dict(enumerate(node.args))
    tensor = {"tensor": str(node.target)} if node.op == "get_attr" else {}
    return {
        "name": node.name,
        "operation": operation_name(node),
        "kind": meta["kind"],
        "shape": None if meta["shape"] is None else list(meta["shape"]),
        "dtype": _plain(meta["dtype"]),
        **{key: meta[key] for key in ("module_path", "file", "line", "rule")},
        **tensor,
        "operands": {str(name): _plain(value) for name, value in operands.items()},
        "attributes": {name: _plain(value) for name, value in node.kwargs.items()},
        "reads": [source.name for source in node.all_input_nodes],
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it; infinite numbers, slices, dtypes and devices become text."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return value_text(value)

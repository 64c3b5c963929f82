"""Building graphs in normal form: one place that makes nodes, completes attributes and computes shapes.

Used by the normalizer for traced models and by the rewriter for the nodes that rules write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.graph import shapes
from surgery.graph.nodes import INPUT, OUTPUT, PARAMETER
from surgery.graph.vocabulary import OPERATIONS, REQUIRED, Operation

_META = torch.device("meta")
_SPATIAL = frozenset(("kernel_size", "stride", "padding", "dilation", "output_size", "output_padding"))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a node comes from: module path, source file and line, and the rule that made it."""

    module_path: str = ""
    file: str | None = None
    line: int | None = None
    rule: str | None = None

    @staticmethod
    def of(node: fx.Node) -> Place:
        meta = node.meta
        return Place(module_path=meta["module_path"], file=meta["file"], line=meta["line"], rule=meta["rule"])

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file else None
        return ", ".join(part for part in (self.module_path, where) if part) or "top level"


class UnsupportedError(Exception):
    """The vocabulary has no operation for a traced node, or not for the form of its call."""


class Builder:
    """Appends nodes in normal form to an fx graph (at its insertion point)."""

    def __init__(self, graph: fx.Graph | None = None) -> None:
        self.graph = fx.Graph() if graph is None else graph
        self.place = Place()
        self.tensors: dict[str, torch.Tensor] = {}
        self.containers: frozenset[str] = frozenset()
        self.parameters: dict[str, fx.Node] = {}
        self.made: list[fx.Node] = []

    def input(self, name: str, input_shape: tuple[int, ...], dtype: torch.dtype) -> fx.Node:
        node = self.graph.placeholder(name)
        return self._describe(node, INPUT, "", shapes.of_input(input_shape, dtype))

    def parameter(self, path: str, tensor: torch.Tensor, *, label: str | None = None) -> fx.Node:
        """Read the tensor called `path`; it becomes part of the graph's tensors."""
        # One node for each tensor, so that its readers are all the call sites that share it.
        if path not in self.parameters:
            self.tensors[path] = tensor
            node = self.graph.create_node("get_attr", path, name=label)
            self.parameters[path] = self._describe(node, PARAMETER, "", shapes.of_tensor(tensor))
        return self.parameters[path]

    def output(self, value: Any) -> fx.Node:
        node = self.graph.output(value)
        return self._describe(node, OUTPUT, "", (None, None))

    def call(
        self, name: str, operands: Sequence[Any], attributes: Mapping[str, Any], *, label: str | None = None
    ) -> fx.Node:
        """Append a call of the operation `name`; `label` is the node's name, if it is free."""
        operation = OPERATIONS[name]
        if not operation.required_operands <= len(operands) <= len(operation.operands):
            raise UnsupportedError(f"{name} takes the operands {', '.join(operation.operands)}; got {len(operands)}")
        arguments = (*operands, *(None,) * (len(operation.operands) - len(operands)))
        keywords = complete_attributes(operation, attributes)
        # Running the operation is also the check that shapes and attributes fit together.
        value = shapes.run(
            operation.function, tuple(map(twins_of, arguments)), {k: twins_of(v) for k, v in keywords.items()}
        )
        node = self.graph.create_node(
            "call_function", operation.function, arguments, keywords, name=label or self._label(name)
        )
        return self._describe(node, name, operation.kinds[0] if operation.kinds else "", value)

    def foreign(
        self, overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, label: str | None = None
    ) -> fx.Node:
        """Append a call of an ATen overload that is not in the vocabulary."""
        value = shapes.run(overload, tuple(map(twins_of, args)), {key: twins_of(item) for key, item in kwargs.items()})
        node = self.graph.create_node("call_function", overload, args, kwargs, name=label)
        return self._describe(node, str(overload), "unknown", value)

    def _label(self, operation: str) -> str:
        """Name a node after its module, and after its operation too if the module has other nodes."""
        path = self.place.module_path
        parts = [operation] if not path else [path, operation] if path in self.containers else [path]
        return "_".join(parts).replace(".", "_")

    def _describe(self, node: fx.Node, operation: str, kind: str, value: shapes.Twins) -> fx.Node:
        place = self.place
        node.meta = {
            "operation": operation,
            "kind": kind,
            "shape": shapes.shape(value),
            "dtype": shapes.dtype(value),
            "module_path": place.module_path,
            "file": place.file,
            "line": place.line,
            "rule": place.rule,
            "twins": value,
        }
        self.made.append(node)
        return node


def twins_of(value: Any) -> shapes.Twins:
    """The twins of an argument that may hold nodes."""
    return _twin(value, 0), _twin(value, 1)


def _twin(value: Any, index: int) -> Any:
    """The argument for one batch: fx's immutable lists and dicts become plain ones, devices the meta device."""
    if isinstance(value, fx.Node):
        return value.meta["twins"][index]
    if isinstance(value, list):
        return [_twin(item, index) for item in value]
    if isinstance(value, tuple):
        return tuple(_twin(item, index) for item in value)
    if isinstance(value, dict):
        return {key: _twin(item, index) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_twin(item, index) for item in (value.start, value.stop, value.step)))
    return _META if isinstance(value, torch.device) else value


def complete_attributes(operation: Operation, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return all attributes of a call, in the vocabulary's order and one form: tuples for lists, a number for each
    dimension.
    """
    unknown = [key for key in attributes if key not in operation.attributes]
    if unknown:
        raise UnsupportedError(f"{operation.name} has no attribute {unknown[0]!r}")
    merged = {key: _tuples(attributes.get(key, default)) for key, default in operation.attributes.items()}
    missing = [key for key, value in merged.items() if value is REQUIRED]
    if missing:
        raise UnsupportedError(f"{operation.name} needs the attribute {missing[0]!r}")
    if operation.rank is not None:
        merged = {key: _spread(value, operation.rank) if key in _SPATIAL else value for key, value in merged.items()}
    # torch's default stride of a pool is its kernel size; written out, a rule can match it.
    if "kernel_size" in merged and merged.get("stride", 0) in (None, ()):
        merged["stride"] = merged["kernel_size"]
    return merged


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _spread(value: Any, rank: int) -> Any:
    if isinstance(value, tuple) and len(value) == 1:
        return value * rank
    return (value,) * rank if isinstance(value, int) else value


def refresh(graph: fx.Graph) -> None:
    """Recompute the shapes of all calls, after the shape of a node that others read has changed."""
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        operands, keywords = twins_of(node.args), twins_of(dict(node.kwargs))
        function: Any = node.target
        value = shapes.run(
            function,
            tuple(zip(operands[0], operands[1], strict=True)),
            {key: (keywords[0][key], keywords[1][key]) for key in keywords[0]},
        )
        node.meta |= {"twins": value, "shape": shapes.shape(value), "dtype": shapes.dtype(value)}

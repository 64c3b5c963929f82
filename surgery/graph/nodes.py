"""Properties of nodes in normal form, computed without the `Graph` that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import fx

from surgery.graph.vocabulary import OPERATIONS, Operation

INPUT, PARAMETER, OUTPUT = "input", "parameter", "output"
"""The operation names of nodes that compute nothing."""


class Described(Protocol):
    """The part of a graph that views read.

    `Graph` implements it. It imports the views to print itself, so the views import this interface and not `Graph`.
    """

    model_name: str
    rung: str
    input_shape: tuple[int, ...]

    @property
    def graph(self) -> fx.Graph: ...

    @property
    def log(self) -> Sequence[Any]: ...

    def parameters(self) -> Iterator[torch.Tensor]: ...

    def named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]: ...


def copy_nodes(graph: fx.Graph) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """Copy the nodes of `graph`, with their names and meta; return the copy and the map from old nodes to new ones."""
    result = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        mapping[node] = result.node_copy(node, mapping.__getitem__)
    return result, mapping


def attribute(module: Any, path: str) -> Any:
    """Return the attribute of `module` at the dotted `path`."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def operation_name(node: fx.Node) -> str:
    """The canonical operation of a node: a word of the vocabulary, an `aten.` overload, `input`, `parameter` or
    `output`.
    """
    return node.meta["operation"]


def operation_of(node: fx.Node) -> Operation | None:
    """The vocabulary's entry for a node, or None for a node that computes nothing or has no entry."""
    return OPERATIONS.get(operation_name(node))


def computing(graph: Described | fx.GraphModule) -> list[fx.Node]:
    """The nodes that compute something, in order."""
    return [node for node in graph.graph.nodes if node.op == "call_function"]


def nodes_in(value: Any) -> Iterator[fx.Node]:
    """Every node inside an argument: itself, in tuples, lists, dicts and slices."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from nodes_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from nodes_in(item)
    elif isinstance(value, slice):
        yield from nodes_in((value.start, value.stop, value.step))


def depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on the values of the input, not only on its shape."""
    dependent: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(read in dependent for read in values_read(node)):
            dependent.add(node)
    return dependent


def values_read(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes whose values (not only shapes) `node` reads."""
    operation = operation_of(node) if node.op == "call_function" else None
    if operation is None:
        yield from node.all_input_nodes
    else:
        yield from nodes_in(node.args[: operation.reads])
        yield from nodes_in(dict(node.kwargs))


def tensor_names(node: fx.Node) -> tuple[str, ...]:
    """The names of the parameters and buffers that a node reads."""
    return tuple(str(source.target) for source in node.all_input_nodes if source.op == "get_attr")

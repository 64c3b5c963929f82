"""A graph as a networkx graph, for everything that networkx can do with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from surgery.graph.nodes import Described, nodes_in, tensor_names

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Described, *, parameters: bool = False) -> networkx.MultiDiGraph:
    """Return `graph` as a MultiDiGraph, one edge for each time that a node reads another.

    Node attributes: `operation`, `kind`, `shape` (a tuple, N for the batch), `dtype`, `module_path`, `file`, `line`,
    `rule`, `attributes` (a dict) and `parameters` (the names of the tensors that the node reads). Edge attribute:
    `argument`, the position of the operand or the name of the attribute that is read. Parameters are nodes of their own
    only on request.
    """
    import networkx  # the import takes half a second, and only this function needs it

    result = networkx.MultiDiGraph(
        model=graph.model_name, rung=graph.rung, input_shape=graph.input_shape, edits=len(graph.log)
    )
    for node in graph.graph.nodes:
        if node.op != "get_attr" or parameters:
            names = ("operation", "kind", "shape", "dtype", "module_path", "file", "line", "rule")
            settings = node.kwargs.items() if node.op == "call_function" else ()
            result.add_node(
                node.name,
                **{name: node.meta[name] for name in names},
                # An attribute that holds a node is an edge.
                attributes={key: value for key, value in settings if not list(nodes_in(value))},
                parameters=tensor_names(node),
            )
    for node in graph.graph.nodes:
        for argument, source in _reads(node):
            if source.op != "get_attr" or parameters:
                result.add_edge(source.name, node.name, argument=argument)
    return result


def _reads(node: fx.Node) -> list[tuple[int | str, fx.Node]]:
    positional: list[tuple[int | str, fx.Node]] = [
        (position, source) for position, value in enumerate(node.args) for source in nodes_in(value)
    ]
    return positional + [(key, source) for key, value in node.kwargs.items() for source in nodes_in(value)]

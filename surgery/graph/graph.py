"""The `Graph`: a torch.fx GraphModule in normal form, whose nodes say what they are and where they come from.

In normal form a node is an input, a parameter (`get_attr`), a call of a function of the vocabulary, or the output.
Operands are positional and attributes complete, so two spellings of one operation are the same node. Parameters keep
the names they have in the model; there are no submodules with behaviour, so nothing can be shared by accident and
nothing depends on a mode.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.graph.vocabulary import OPERATIONS, Operation

INPUT, PARAMETER, OUTPUT = "input", "parameter", "output"
"""The operation names of nodes that compute nothing."""


TENSOR_PATH = re.compile(r'[^"\\\x00-\x1f]+')
"""Names of tensors that fx can write into the code that it generates: inside quotes, or as identifiers."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One application of a rule: what it matched, what it removed and what it made.

    `at` names the node that was replaced; `removed` and `added` list node names with their operations; `into` names the
    node that the readers of `at` read now. `module_path`, `file` and `line` are the position of `at` in the model's
    source.
    """

    rule: str
    ruleset: str
    at: str
    into: str
    removed: tuple[tuple[str, str], ...]
    added: tuple[tuple[str, str], ...]
    module_path: str
    file: str | None
    line: int | None


class Graph(fx.GraphModule):
    """A traced network in normal form.

    Every node carries in `meta`: `operation` and `kind` (str), `shape` (a tuple; entries that grow with the batch are
    written with N, as in `("N", 64, 8, 8)`) and `dtype`, `module_path`, `file`, `line`, and `rule`, the name of the
    rule that made it or None.
    """

    input_shape: tuple[int, ...]
    """`(channels, height, width)`: the shape of one input, without the batch."""
    rung: str
    """How the model was traced: `symbolic`, `symbolic-with-values` or `export`."""
    model_name: str
    """The class of the traced model."""
    log: tuple[Edit, ...]
    """All edits since the trace, in order."""

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        graph: fx.Graph,
        *,
        input_shape: tuple[int, ...],
        rung: str,
        model_name: str,
        log: tuple[Edit, ...] = (),
    ) -> None:
        super().__init__(dict(tensors), graph, class_name=model_name)
        self.input_shape = input_shape
        self.rung = rung
        self.model_name = model_name
        self.log = log
        self.train(False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter and buffer that the graph reads, by its name in the model."""
        return {
            str(node.target): attribute(self, str(node.target)) for node in self.graph.nodes if node.op == "get_attr"
        }

    def derive(self, graph: fx.Graph, tensors: Mapping[str, torch.Tensor], log: tuple[Edit, ...]) -> Graph:
        """Return a graph of the same origin with other nodes, tensors and history."""
        return Graph(
            tensors,
            graph,
            input_shape=self.input_shape,
            rung=self.rung,
            model_name=self.model_name,
            log=log,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        tensors = {name: copy.deepcopy(tensor, memo) for name, tensor in self.tensors().items()}
        return self.derive(copy_nodes(self.graph)[0], tensors, self.log)

    def __copy__(self) -> Graph:
        return self.derive(copy_nodes(self.graph)[0], self.tensors(), self.log)

    def __str__(self) -> str:
        from surgery.graph.views.text import summary

        return summary(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from surgery.graph.views.svg import to_svg

        return f"<p>{self.model_name}: {len(computing(self))} operations</p>{to_svg(self)}"


def copy_nodes(graph: fx.Graph) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """Copy the nodes of `graph`, with their names and meta; return the copy and the map from old nodes to new ones."""
    result = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        mapping[node] = result.node_copy(node, mapping.__getitem__)
    return result, mapping


def attribute(module: torch.nn.Module, path: str) -> Any:
    """Return what the dotted `path` names in `module`."""
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
    """The vocabulary's entry for a node, or None where it computes nothing or the vocabulary does not know it."""
    return OPERATIONS.get(operation_name(node))


def computing(graph: fx.GraphModule) -> list[fx.Node]:
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

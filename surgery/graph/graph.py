"""The `Graph`: a torch.fx GraphModule in normal form, whose nodes carry their operation and their source.

In normal form a node is an input, a parameter (`get_attr`), a call of a function of the vocabulary, or the output.
Operands are positional and attributes complete, so two spellings of one operation are the same node. Parameters keep
the names they have in the model; there are no submodules with behavior, so nothing can be shared by accident and
nothing depends on a mode.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import fx

from surgery.graph.nodes import attribute, copy_nodes
from surgery.graph.views.svg import to_svg
from surgery.graph.views.text import complete, headline, summary

TENSOR_PATH = re.compile(r'[^"\\\x00-\x1f]+')
"""Names of tensors that fx can write into the code that it generates: inside quotes, or as identifiers."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One application of a rule: the nodes that it matched, removed and made.

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
    class_names: tuple[str, ...] | None
    """The names of the outputs, in order, if the traced model has an attribute `class_names` with them."""

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        graph: fx.Graph,
        *,
        input_shape: tuple[int, ...],
        rung: str,
        model_name: str,
        log: tuple[Edit, ...] = (),
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(dict(tensors), graph, class_name=model_name)
        self.input_shape = input_shape
        self.rung = rung
        self.model_name = model_name
        self.log = log
        self.class_names = class_names
        self.train(False)

    def recompile(self) -> Any:
        code = super().recompile()
        # torch.fx wraps the call so that it prints the traceback of every error to stderr, also of handled ones.
        if "__call__" in vars(type(self)):
            del type(self).__call__
        return code

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
            class_names=self.class_names,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        tensors = {name: copy.deepcopy(tensor, memo) for name, tensor in self.tensors().items()}
        return self.derive(copy_nodes(self.graph)[0], tensors, self.log)

    def __copy__(self) -> Graph:
        return self.derive(copy_nodes(self.graph)[0], self.tensors(), self.log)

    def text(self) -> str:
        """Every operation on a line, in the tree of modules; `print(graph)` shows as much as fits on a screen."""
        return complete(self)

    def __str__(self) -> str:
        return summary(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p>{escape(headline(self))}</p>{to_svg(self)}"


def valid_class_names(names: object) -> tuple[str, ...] | None:
    """Different texts, as a tuple; None for anything else, such as a module's own use of the attribute's name."""
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(names) if names and len(set(names)) == len(names) else None

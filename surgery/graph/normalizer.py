"""From a recorded or exported fx graph to a `Graph` in normal form.

Every call is respelled in the vocabulary, plain values are folded into their readers, assertions and dead code are
removed. In-place operations become ordinary ones whose result all later readers read. Where a later reader would see
the overwritten memory through another view of it, the graph is refused: normal form has no memory, only values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from surgery.graph import shapes
from surgery.graph.builder import Builder, Place, UnsupportedError, twins_of
from surgery.graph.nodes import operation_of
from surgery.graph.recorder import run_raw
from surgery.graph.spelling import ALIASES, is_in_place, plain_name, respell
from surgery.graph.vocabulary import OPERATIONS

Feed = Callable[[Builder, fx.Node], Any]
"""How a placeholder or attribute of the traced graph enters the new one."""


class NodeError(Exception):
    """A traced node cannot be brought into normal form; carries its place and the reason."""

    def __init__(self, place: Place, reason: Exception) -> None:
        super().__init__(str(reason))
        self.place = place
        self.reason = reason


def normalize(traced: fx.Graph, feed: Feed) -> Builder:
    """Return a builder holding the normal form of `traced`.

    Raises NodeError where an operation is not understood or fails on the shapes it gets.
    """
    return _Normalizer(traced, feed).run()


class _Normalizer:
    """One pass over a traced graph; `values` maps its nodes to values of the new graph."""

    def __init__(self, traced: fx.Graph, feed: Feed) -> None:
        self.traced = traced
        self.feed = feed
        self.builder = Builder()
        # Module paths below which there are other module paths.
        paths = {place_of(node).module_path for node in traced.nodes}
        parents = {path.rsplit(".", i)[0] for path in paths for i in range(1, path.count(".") + 1)}
        self.builder.containers = frozenset(parents | {""})
        self.values: dict[fx.Node, Any] = {}
        self.order = {node: index for index, node in enumerate(traced.nodes)}
        self.memory: dict[fx.Node, _Memory] = {}

    def run(self) -> Builder:
        for node in self.traced.nodes:
            self.builder.place = place_of(node)
            try:
                self.values[node] = self._value(node)
            except NodeError:
                raise
            except Exception as error:
                raise NodeError(self.builder.place, error) from error
        remove_dead_code(self.builder.graph)
        return self.builder

    def _value(self, node: fx.Node) -> Any:
        if node.op in ("placeholder", "get_attr"):
            return self.feed(self.builder, node)
        args = map_arg(node.args, self.values.__getitem__)
        kwargs = map_arg(node.kwargs, self.values.__getitem__)
        if node.op == "output":
            return self.builder.output(args[0])
        if node.op == "call_module":
            raise UnsupportedError(f"the module {node.target} is one call, and its operations are unknown")
        # An assertion computes no value, so normal form has none.
        called = getattr(node.target, "__name__", str(node.target))
        if node.op == "call_function" and ("_assert" in called or called.startswith("sym_constrain")):
            return None
        if _may_be_plain(node):
            value = run_raw(node, twins_of(args), twins_of(kwargs))
            if shapes.is_constant(value):
                return value[0]
        # Before the call is respelled, because normal form has no in-place mark.
        overwritten = args[0] if is_in_place(node) else None
        result = respell(self.builder, node, args, dict(kwargs))
        if isinstance(result, fx.Node) and result not in self.memory:
            self.memory[result] = self._memory_of(result)
        if isinstance(overwritten, fx.Node) and isinstance(overwritten.meta["twins"][0], torch.Tensor):
            self._overwrite(node, overwritten, result)
        return result

    def _memory_of(self, value: fx.Node) -> _Memory:
        operation = operation_of(value) if value.op == "call_function" else None
        if operation is None or not operation.view:
            return _Memory(base=value, parts={})
        source: Any = value.args[0]
        if isinstance(source, (tuple, list)):  # `einsum` of one tensor may be a view, of several it is not
            source = source[0]
        memory = self.memory.get(source) or _Memory(base=source, parts={})
        index, items = value.kwargs.get("index"), source.meta["twins"][0]
        if isinstance(items, (tuple, list)) and isinstance(index, int) and not memory.repeats:
            return replace(memory, parts={**memory.parts, source: index % len(items)})
        # Items of an expanded tensor or of windows may be the same memory, though their positions differ.
        repeats = memory.repeats or operation.name in ("expand", "expand_as", "unfold", "einsum")
        return replace(memory, repeats=repeats)

    def _overwrite(self, node: fx.Node, overwritten: fx.Node, result: Any) -> None:
        """Let later readers of what `node` overwrites read the result instead.

        Raises UnsupportedError where they would read it through another view, or where the tensor would have to change
        its shape or dtype, which memory does not.
        """
        if (result.meta["shape"], result.meta["dtype"]) != (overwritten.meta["shape"], overwritten.meta["dtype"]):
            raise UnsupportedError("an in-place operation changes the shape or dtype of its tensor")
        memory = self.memory.get(overwritten) or _Memory(base=overwritten, parts={})
        # Readers so far read the old value, which is right; only traced nodes with later readers matter.
        for other, value in list(self.values.items()):
            if not isinstance(value, fx.Node) or all(self.order[user] <= self.order[node] for user in other.users):
                continue
            if value is overwritten:
                self.values[other] = result
            elif memory.overlaps(self.memory.get(value) or _Memory(base=value, parts={})):
                raise UnsupportedError("an in-place operation changes a tensor that is read later through a view of it")


@dataclass(frozen=True, kw_only=True)
class _Memory:
    """Where a value may be stored: in the tensor `base`, and there only in one part of each split in `parts`.

    `parts` maps values such as `chunk(x)`, whose items do not overlap, to the position of the item. `repeats` is
    true if elements of the value may share memory with each other.
    """

    base: fx.Node
    parts: Mapping[fx.Node, int]
    repeats: bool = False

    def overlaps(self, other: _Memory) -> bool:
        apart = any(other.parts.get(split, position) != position for split, position in self.parts.items())
        return self.base is other.base and not apart


def _may_be_plain(node: fx.Node) -> bool:
    """False for calls that always return tensors: these need not be tried for a constant."""
    name = plain_name(node)
    word = ALIASES.get(name, name) if name else None
    operation = OPERATIONS.get(word) if word else None
    return operation is None or bool({"shape_query", "arithmetic", "indexing"} & set(operation.kinds))


def place_of(node: fx.Node) -> Place:
    """The place of a node that a recorder or torch.export made."""
    if "place" in node.meta:
        path, file, line = node.meta["place"]
        return Place(module_path=path, file=file, line=line)
    stack = node.meta.get("nn_module_stack") or {}
    path = [entry[0] for entry in stack.values()][-1] if stack else ""
    path = "" if path.startswith("_empty_nn_module_stack") else path  # torch.export's stack for sizes of the input
    file, line = _last_frame(node.meta.get("stack_trace"))
    return Place(module_path=path, file=file, line=line)


def _last_frame(stack_trace: str | None) -> tuple[str | None, int | None]:
    """The innermost frame of a formatted stack trace that is not torch's own."""
    found: tuple[str | None, int | None] = (None, None)
    for text in (stack_trace or "").splitlines():
        parts = text.strip().split('"')
        if len(parts) == 3 and parts[0] == "File " and "/torch/" not in parts[1] and not parts[1].startswith("<"):
            found = parts[1], int(parts[2].split("line ")[1].split(",")[0])
    return found


def remove_dead_code(graph: fx.Graph) -> None:
    """Erase the nodes without readers, except inputs and outputs."""
    # From the end, so that the inputs of an erased node have lost their reader when their turn comes.
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op in ("call_function", "get_attr"):
            graph.erase_node(node)


def owned(tensors: Mapping[str, torch.Tensor], graph: fx.Graph) -> dict[str, torch.Tensor]:
    """Copy the tensors that `graph` reads, so that training the model further cannot change it; ties are kept."""
    read = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    copies: dict[int, torch.Tensor] = {}
    for name in read:
        tensor = tensors[name]
        if id(tensor) not in copies:
            copy = tensor.detach().clone()
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            copies[id(tensor)] = torch.nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy
    return {name: copies[id(tensors[name])] for name in read}

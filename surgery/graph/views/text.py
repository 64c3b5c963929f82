"""A graph as text: one `Line` for each node, a tree of modules, and a summary."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from surgery.graph.nodes import (
    INPUT,
    OUTPUT,
    Described,
    attribute,
    computing,
    nodes_in,
    operation_name,
    operation_of,
    tensor_names,
)
from surgery.graph.operation import REQUIRED, Operation

_SUMMARY_ROWS = 38


@dataclass(frozen=True, kw_only=True)
class Line:
    """The description of one node, as text.

    `shape` is text like `(N, 64, 8, 8)`, empty for any other value; `attributes` are those that differ from the
    vocabulary's defaults, with one number where all dimensions agree; `parameters` and `buffers` count the numbers in
    the tensors called `parameter_names`, learned ones and others; `reads` names the other nodes read, each once.
    """

    name: str
    operation: str
    kind: str
    shape: str
    dtype: str
    attributes: str
    parameters: int
    buffers: int
    parameter_names: tuple[str, ...]
    reads: tuple[str, ...]
    rule: str | None
    module_path: str
    file: str | None
    line: int | None


@dataclass(frozen=True, kw_only=True)
class ModuleTree:
    """A module with its own operations and its inner modules, in order of first execution.

    A module that computes one node when it is called is shown as the line of that node, wherever it is called.
    """

    path: str
    name: str
    content: tuple[Line | ModuleTree, ...]

    @property
    def operations(self) -> tuple[Line, ...]:
        return tuple(item for item in self.content if isinstance(item, Line))

    @property
    def children(self) -> tuple[ModuleTree, ...]:
        return tuple(item for item in self.content if isinstance(item, ModuleTree))

    def walk(self) -> Iterator[Line]:
        """All lines in this module and those below."""
        for item in self.content:
            if isinstance(item, Line):
                yield item
            else:
                yield from item.walk()


def lines(graph: Described) -> tuple[Line, ...]:
    """One line for the input, each computing node and the output, in order."""
    return tuple(_line(graph, node) for node in graph.graph.nodes if node.op != "get_attr")


def _line(graph: Described, node: fx.Node) -> Line:
    meta, names = node.meta, tensor_names(node)
    tensors = [attribute(graph, name) for name in names]
    learned = [tensor for tensor in tensors if isinstance(tensor, torch.nn.Parameter)]
    return Line(
        name=node.name,
        operation=operation_name(node),
        kind=meta["kind"],
        shape=node_shape(node),
        dtype=value_text(_result(node).meta["dtype"]) if _result(node).meta["dtype"] else "",
        attributes=attributes_text(node),
        parameters=sum(tensor.numel() for tensor in learned),
        buffers=sum(tensor.numel() for tensor in tensors) - sum(tensor.numel() for tensor in learned),
        parameter_names=names,
        reads=tuple(source.name for source in node.all_input_nodes if source.op != "get_attr"),
        rule=meta["rule"],
        module_path=meta["module_path"],
        file=meta["file"],
        line=meta["line"],
    )


def _result(node: fx.Node) -> fx.Node:
    """The node that an output returns, if it returns one; any other node itself."""
    return node.args[0] if node.op == "output" and isinstance(node.args[0], fx.Node) else node


def shape_text(shape: tuple[int | str, ...] | None) -> str:
    """`(N, 64, 8, 8)`; empty for a value without a shape."""
    return "" if shape is None else f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def node_shape(node: fx.Node) -> str:
    """The shape of a node's value as text; of an output, the shapes of all that it returns."""
    if node.op == "output" and not isinstance(node.args[0], fx.Node):
        return ", ".join(node_shape(item) for item in nodes_in(node.args[0]))
    return shape_text(_result(node).meta["shape"])


def value_text(value: Any, reference: Callable[[fx.Node], str] = str) -> str:
    """An attribute's value as it is written, nodes by `reference`, which defaults to their names."""
    if isinstance(value, fx.Node):
        return reference(value)
    if isinstance(value, (tuple, list)):
        items = [value_text(item, reference) for item in value]
        return f"[{', '.join(items)}]" if isinstance(value, list) else f"({', '.join(items)}{',' * (len(items) == 1)})"
    if isinstance(value, slice):
        step = "" if value.step is None else f":{value_text(value.step, reference)}"
        ends = ["" if end is None else value_text(end, reference) for end in (value.start, value.stop)]
        return ":".join(ends) + step
    if isinstance(value, float):
        return f"{value:.6g}"
    return "..." if value is Ellipsis else str(value).removeprefix("torch.")


def settings(node: fx.Node, reference: Callable[[fx.Node], str] = str) -> dict[str, str]:
    """Every attribute of a call as text, defaults too, and operands that are plain values.

    A convolution, whose operands say how large its kernel is, gets a `kernel_size` as well.
    """
    if node.op != "call_function":
        return {}
    operation, operands = operation_of(node), named_operands(node)
    plain = {name: value for name, value in operands.items() if value is not None and not any(nodes_in(value))}
    if node.meta["kind"] == "convolution" and isinstance(operands["weight"], fx.Node):
        plain["kernel_size"] = operands["weight"].meta["shape"][2:]
    return {name: _setting(operation, value, reference) for name, value in {**plain, **node.kwargs}.items()}


def _setting(operation: Operation | None, value: Any, reference: Callable[[fx.Node], str] = str) -> str:
    """The text of a value; a tuple with the same number for each dimension is that number."""
    rank = operation.rank if operation else None
    same = isinstance(value, tuple) and len(value) == rank and len(set(value)) == 1
    return value_text(value[0] if same else value, reference)


def named_operands(node: fx.Node) -> dict[str, Any]:
    """The positional arguments of a call by their names in the vocabulary, or in the schema of an ATen overload."""
    operation, target = operation_of(node), node.target
    if operation is not None:
        return dict(zip(operation.operands, node.args, strict=True))
    schema = [argument.name for argument in target._schema.arguments]  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
    return dict(zip(schema, node.args, strict=False))


def attributes_text(node: fx.Node) -> str:
    """`kernel_size=3, padding=1`: the attributes of a call that differ from the defaults of its operation."""
    operation, given = operation_of(node), settings(node)
    defaults = dict(operation.attributes) if operation else {}
    default = {name: _setting(operation, value) for name, value in defaults.items() if value is not REQUIRED}
    if "kernel_size" in given and defaults.get("stride", 1) is None:
        default["stride"] = given["kernel_size"]
    return ", ".join(f"{name}={text}" for name, text in given.items() if text != default.get(name))


def module_tree(graph: Described) -> ModuleTree:
    """The lines of `graph` grouped by module."""
    everything = [line for line in lines(graph) if line.operation not in (INPUT, OUTPUT)]
    nested = _nested_modules([line.module_path for line in everything])
    root: dict[str | Line, Any] = {}
    for line in everything:
        place: dict[str | Line, Any] = root
        parts = line.module_path.split(".") if line.module_path else []
        # A module that computes one node is shown as that node, not as a level of the tree.
        for part in parts if line.module_path in nested else parts[:-1]:
            place = place.setdefault(part, {})
        place[line] = None
    return ModuleTree(path="", name=graph.model_name, content=_content("", root))


def _nested_modules(paths: list[str]) -> set[str]:
    """The modules that have others inside, or compute several nodes in a row."""
    parents = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "."}
    return parents | {path for path, following in itertools.pairwise(paths) if path == following}


def _content(path: str, place: dict[str | Line, Any]) -> tuple[Line | ModuleTree, ...]:
    return tuple(
        key if isinstance(key, Line) else _subtree(f"{path}.{key}" if path else key, key, item)
        for key, item in place.items()
    )


def _subtree(path: str, name: str, place: dict[str | Line, Any]) -> Line | ModuleTree:
    content = _content(path, place)
    only = content[0] if len(content) == 1 else None
    return only if isinstance(only, Line) else ModuleTree(path=path, name=name, content=content)


def number_text(count: int) -> str:
    """`11.7 M`: a count with three digits."""
    if count < 1000:
        return str(count)
    power = min(int(math.log10(count) / 3), 3)
    return f"{count / 1000**power:.3g} {'kMG'[power - 1]}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def headline(graph: Described) -> str:
    """The model, its shapes and sizes, how it was traced and how far it was rewritten, in one line."""
    ends = {
        operation_name(node): node_shape(node) for node in graph.graph.nodes if node.op in ("placeholder", "output")
    }
    tensors = dict(graph.named_parameters())
    numbers = number_text(sum(tensor.numel() for tensor in tensors.values()))
    parts = [
        f"{graph.model_name}: {ends[INPUT]} -> {ends[OUTPUT]}",
        _count(len(computing(graph)), "operation"),
        f"{_count(len(tensors), 'parameter tensor')} with {numbers} numbers",
        f"traced {graph.rung}",
    ]
    if graph.log:
        rules = {(edit.ruleset, edit.rule) for edit in graph.log}
        parts.append(f"{_count(len(graph.log), 'edit')} by {_count(len(rules), 'rule')}")
    return ", ".join(parts)


def summary(graph: Described) -> str:
    """The headline, and the tree of modules as deep as fits on a screen."""
    tree = module_tree(graph)
    rows = list(_rows(tree, depth=1))
    for depth in range(2, _SUMMARY_ROWS):
        deeper = list(_rows(tree, depth=depth))
        if len(deeper) > _SUMMARY_ROWS:
            break
        rows = deeper
    shown, total = sum(row.operation for row in rows), len(computing(graph))
    folded = [f"  ({total - shown} of {total} operations folded; graph.text() has all)"] if shown < total else []
    texts = _columns([replace(row, label=_cut(row.label), shape=_cut(row.shape)) for row in rows])
    if len(texts) > _SUMMARY_ROWS:
        head, tail = texts[: _SUMMARY_ROWS - 9], texts[-8:]
        texts = [*head, f"  ... {len(texts) - len(head) - len(tail)} more lines, all in graph.text() ...", *tail]
    return "\n".join([headline(graph), *texts, *folded])


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def complete(graph: Described) -> str:
    """The headline, and every operation on a line in the tree of modules."""
    return "\n".join([headline(graph), *_columns(list(_rows(module_tree(graph), depth=sys.maxsize)))])


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One row of the summary: an operation or a module."""

    label: str
    shape: str = ""
    details: str = ""
    operation: bool = False


def _rows(tree: ModuleTree, *, depth: int, indent: str = "  ") -> Iterator[_Row]:
    """The tree down to `depth` levels."""
    for item in tree.content:
        if isinstance(item, Line):
            module = item.module_path.removeprefix(tree.path).removeprefix(".")
            label = f"{indent}{module}: {item.operation}" if module else f"{indent}{item.operation}"
            yield _Row(label=label, shape=item.shape, details=item.attributes, operation=True)
        elif depth == 1:
            inside = list(item.walk())
            yield _Row(label=indent + item.name, shape=inside[-1].shape, details=f"{len(inside)} operations")
        else:
            yield _Row(label=indent + item.name)
            yield from _rows(item, depth=depth - 1, indent=f"{indent}  ")


def _columns(rows: Sequence[_Row]) -> list[str]:
    label = max((len(row.label) for row in rows), default=0)
    shape = max((len(row.shape) for row in rows), default=0)
    return [f"{row.label:<{label}}  {row.shape:<{shape}}  {row.details:.60}".rstrip() for row in rows]

"""Reverse mode without a forward pass: cotangents go back through an affine graph, one operation after the other.

The transpose of an affine operation does not depend on the point, so no forward pass is needed. Convolutions
and linear layers have their transposes written out; every other operation is cheap and is differentiated at zero.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from surgery.graph import Graph, attribute, depends_on_input, nodes_in, operation_name
from surgery.graph.shapes import BATCHES


class Transpose:
    """An affine graph made ready for `count` images or cotangents at a time, on one device and in one dtype."""

    def __init__(self, graph: Graph, count: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.graph = graph
        self.device = device
        self.dtype = dtype
        self.dependent = depends_on_input(graph.graph)
        self.source = next(node for node in graph.graph.nodes if node.op == "placeholder")
        self.weights = {
            node: self._cast(attribute(graph, str(node.target)).detach())
            for node in graph.graph.nodes
            if node.op == "get_attr"
        }
        self.blank = torch.empty(0, dtype=dtype, device=device)
        self._prepare(count)

    def of(self, count: int) -> Transpose:
        """The transpose of the same graph for another `count`; the two share their weights."""
        if count == self.count:
            return self
        other = copy.copy(self)
        other._prepare(count)
        return other

    def _prepare(self, count: int) -> None:
        """Compute the values that do not depend on those of the input: sizes, constant gates, uniform attention."""
        self.count = count
        self.constants: dict[fx.Node, Any] = dict(self.weights)
        for node in self.graph.graph.nodes:
            if node.op == "call_function" and node not in self.dependent:
                # Such a node may still read the shape of one that depends on the input, as `size` does.
                stand_ins = {read: self.zeros(read) for read in node.all_input_nodes if read in self.dependent}
                self.constants[node] = self._cast(self._run(node, {**self.constants, **stand_ins}))

    def pull(self, node: fx.Node, cotangents: torch.Tensor, *, to: fx.Node | None = None) -> torch.Tensor:
        """Take `(count, *shape)` cotangents of `node` back to those of the node `to` (default: the input)."""
        target = self.source if to is None else to
        waiting: dict[fx.Node, Any] = {node: cotangents}
        with torch.no_grad():
            for current in reversed(list(self.graph.graph.nodes)):
                if current is target:
                    break
                if current in waiting:
                    self._step(current, waiting.pop(current), waiting)
        result = waiting.get(target)
        return self.zeros(target) if result is None else result

    def value_at_zero(self, node: fx.Node) -> torch.Tensor:
        """The value of `node`, `(count, *shape)`, for images that are zero.

        Without biases, as where batch norm was dropped, most values are zero; operations on them are skipped.
        """
        values: dict[fx.Node, Any] = {**self.constants, self.source: self.zeros(self.source)}
        zero = {self.source}
        with torch.no_grad():
            for current in self.graph.graph.nodes:
                if current not in self.dependent or current is self.source:
                    continue
                if current.op == "output":
                    break
                written, sums = operation_name(current) in WRITTEN, operation_name(current) in ("add", "sub")
                without_bias = written and current.args[0] in zero and current.args[2] is None
                stays = without_bias or (sums and all(item in zero for item in current.args))
                values[current] = self.zeros(current) if stays else self._run(current, values)
                if current is node:
                    break
                if stays or not any(tensor.any() for tensor in _flat(values[current])):
                    zero.add(current)
        return values[node]

    def zeros(self, node: fx.Node) -> Any:
        """Zeros of a node's shape that take no memory; a tuple of them for a node that gives several tensors."""
        return self._zeros_like(*node.meta["twins"])

    def _step(self, node: fx.Node, cotangent: Any, waiting: dict[fx.Node, Any]) -> None:
        """Pass the cotangent of `node` to its operands."""
        written = WRITTEN.get(operation_name(node))
        source: Any = node.args[0]
        weight: Any = node.args[1] if len(node.args) > 1 else None
        if operation_name(node) == "add" and self._same_shapes(node, source, weight):
            for item in (source, weight):
                _add(waiting, item, cotangent)
        elif written is not None and source in self.dependent and weight in self.constants:
            part = written(cotangent, self._blank(source), self.constants[weight], **node.kwargs)
            known = waiting.get(source)
            # In place: nothing else holds the tensor just computed, and a third tensor would leave the caches.
            waiting[source] = part if known is None else part.add_(known)
        else:
            self._differentiate(node, cotangent, waiting)

    def _differentiate(self, node: fx.Node, cotangent: Any, waiting: dict[fx.Node, Any]) -> None:
        """The vector-Jacobian product of one operation at zero, by automatic differentiation."""
        # A node that reads one value twice is one operand with the sum of both derivatives.
        operands = [item for item in dict.fromkeys(nodes_in([node.args, dict(node.kwargs)])) if item in self.dependent]
        at_zero = {item: _leaves(self.zeros(item)) for item in operands}
        with torch.enable_grad():
            value = self._run(node, {**self.constants, **at_zero})
        pairs = [
            (out, into)
            for out, into in zip(_flat(value), _flat(cotangent), strict=True)
            if into is not None and out.requires_grad
        ]
        inputs = [leaf for item in operands for leaf in _flat(at_zero[item])]
        if pairs and inputs:
            outputs, into = zip(*pairs, strict=True)
            grads = iter(torch.autograd.grad(outputs, inputs, into, allow_unused=True))
            for item in operands:
                _add(waiting, item, _like(at_zero[item], grads))

    def _same_shapes(self, total: fx.Node, *items: Any) -> bool:
        """True for a sum without broadcasting, whose operands all get the unchanged cotangent."""
        shape = self._shape(*total.meta["twins"])
        return all(item in self.dependent and self._shape(*item.meta["twins"]) == shape for item in items)

    def _blank(self, node: fx.Node) -> torch.Tensor:
        """An uninitialized tensor of a node's shape, in memory that all nodes share.

        The kernels want the input of a convolution for its shape only, but copy zeros that take no memory.
        """
        shape = self._shape(*node.meta["twins"])
        size = math.prod(shape)
        if self.blank.numel() < size:
            self.blank = torch.empty(size, dtype=self.dtype, device=self.device)
        return self.blank[:size].view(shape)

    def _zeros_like(self, first: Any, second: Any) -> Any:
        if isinstance(first, (tuple, list)):
            return tuple(self._zeros_like(a, b) for a, b in zip(first, second, strict=True))
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(self._shape(first, second))

    def _shape(self, first: torch.Tensor, second: torch.Tensor) -> list[int]:
        # Sizes are linear in the batch; the two known ones are those of batches of two and three.
        return [a + (b - a) * (self.count - BATCHES[0]) for a, b in zip(first.shape, second.shape, strict=True)]

    def _run(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        # A cast inside the network, as to half precision, would lose the digits that were asked for.
        function: Callable[..., Any] = node.target  # pyright: ignore[reportAssignmentType]  # calls have callable targets
        kwargs = map_arg(dict(node.kwargs), values.__getitem__)
        floating = {key: self.dtype for key, item in kwargs.items() if _is_float(item)}
        return function(*map_arg(node.args, values.__getitem__), **{**kwargs, **floating})

    def _cast(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        # Autograd refuses tensors that were made in inference mode; their clones are ordinary ones.
        value = value.clone() if value.is_inference() else value
        return value.to(self.device, self.dtype if value.is_floating_point() else value.dtype)


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value.is_floating_point


def _flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _leaves(value: Any) -> Any:
    return tuple(map(_leaves, value)) if isinstance(value, tuple) else value.detach().requires_grad_()


def _like(value: Any, grads: Iterator[Any]) -> Any:
    """Take as many of `grads` as `value` has tensors, in its form."""
    return tuple(next(grads) for _ in value) if isinstance(value, tuple) else next(grads)


def _add(waiting: dict[fx.Node, Any], node: fx.Node, part: Any) -> None:
    """Add a cotangent to those that wait for `node`; None means zero."""
    known = waiting.get(node)
    if part is None or known is None:
        waiting[node] = known if part is None else part
    elif isinstance(part, tuple):
        waiting[node] = tuple(b if a is None else a if b is None else a + b for a, b in zip(known, part, strict=True))
    else:
        waiting[node] = known + part


def _convolution(
    cotangent: torch.Tensor,
    image: torch.Tensor,
    weight: torch.Tensor,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> torch.Tensor:
    """The gradient of a convolution with respect to its input `image`, contiguous, of which only the shape matters."""
    sizes = image.shape[2:]
    if isinstance(padding, str):
        spans = [d * (size - 1) if padding == "same" else 0 for d, size in zip(dilation, weight.shape[2:], strict=True)]
        padding = [span // 2 for span in spans]
        if any(span % 2 for span in spans):
            # An even kernel pads one more zero at the end than at the start: an input that is longer by one there.
            image = image.new_empty((*image.shape[:2], *(n + span % 2 for n, span in zip(sizes, spans, strict=True))))
    if image.dim() == 4 and image.device.type == "cpu" and weight.numel() <= image.numel():
        # Channels last has the faster kernels, and pays where the weights, which they reorder, are the smaller part.
        cotangent = cotangent.contiguous(memory_format=torch.channels_last)
        image = image.view(image.shape[0], *image.shape[2:], -1).permute(0, 3, 1, 2)
    wanted, none = (True, False, False), [0] * len(stride)
    part, _, _ = torch.ops.aten.convolution_backward(
        cotangent, image, weight, None, stride, padding, dilation, False, none, groups, wanted
    )
    for dimension, size in enumerate(sizes, start=2):
        part = part.narrow(dimension, 0, size)
    return part


def _linear(cotangent: torch.Tensor, image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return cotangent @ weight


WRITTEN: Mapping[str, Callable[..., torch.Tensor]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "linear": _linear,
}
"""The transposes of the operations that cost something, by name."""

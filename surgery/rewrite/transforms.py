"""Named functions that a rewrite may call where writing an operation is not enough: shapes, constants, folded weights.

A transform gets a `Site` and the values of its operands and attributes, and returns a node (or, for `shape`, plain
sizes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.errors import RewriteError
from surgery.graph import KINDS, Builder, operation_name
from surgery.graph.shapes import BATCHES, is_square


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a rewrite happens: the node replaced, the builder that appends before it, and the graph's tensors."""

    at: fx.Node
    builder: Builder
    tensors: dict[str, torch.Tensor]

    def call(self, name: str, operands: list[Any], attributes: Mapping[str, Any]) -> fx.Node:
        return self.builder.call(name, operands, attributes, label=f"{self.at.name}_{name}")

    def new_parameter(self, like: str, tensor: torch.Tensor) -> fx.Node:
        """A new parameter, read at this site only and named after the parameter that it is computed from."""
        # A new tensor instead of a change in place, because another call site may read the old one.
        path, count = f"{like}_folded", 1
        while path in self.tensors:
            count += 1
            path = f"{like}_folded_{count}"
        self.tensors[path] = torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        return self.builder.parameter(path, self.tensors[path])

    def tensor(self, node: Any) -> torch.Tensor | None:
        """The tensor that a parameter node reads; None for an absent operand."""
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            raise RewriteError(f"{self.at.name}: {node} is computed; a parameter is expected")
        return self.tensors[str(node.target)]


def shape(site: Site, node: fx.Node) -> tuple[Any, ...]:
    """The sizes of `node`: numbers, and where they grow with the batch, nodes that compute them from the input's
    size.
    """
    sizes: list[Any] = []
    for first, second in zip(*(value.shape for value in node.meta["twins"]), strict=True):
        if first == second:
            sizes.append(first)
            continue
        if is_square(first, second):
            raise ValueError(f"the sizes of {node.name} grow with the square of the number of images")
        # A number would fix the batch size of the rewritten graph to that of the twins. The size is affine in the batch
        # size, for example N * patches + 1, and two points determine the line.
        slope = (second - first) // (BATCHES[1] - BATCHES[0])
        offset = first - slope * BATCHES[0]
        source = next(item for item in site.builder.graph.nodes if item.op == "placeholder")
        size = site.builder.call("size", [source], {"dim": 0}, label=f"{site.at.name}_batch")
        size = size if slope == 1 else site.call("mul", [size, slope], {})
        sizes.append(size if offset == 0 else site.call("add", [size, offset], {}))
    return tuple(sizes)


def uniform_like(site: Site, node: fx.Node, *, dim: int) -> fx.Node:
    """Weights of the shape of `node`, all equal and summing to one along `dim`: attention that attends to
    everything.
    """
    size, other = (value.shape[dim] for value in node.meta["twins"])
    if size != other:
        raise ValueError(f"uniform_like along dimension {dim} of {node.name}, whose size grows with the batch")
    device = site.builder.call("device", [next(iter(site.at.graph.nodes))], {}, label=f"{site.at.name}_device")
    # One number that is expanded: it takes no memory for the whole attention map, and any batch size fits.
    attributes = {"size": (1,) * len(node.meta["shape"]), "fill_value": 1.0 / size}
    weights = site.call("full", [], {**attributes, "dtype": node.meta["dtype"], "device": device})
    return site.call("expand", [weights], {"size": shape(site, node)})


def fold_batch_norm(site: Site, convolution: fx.Node, norm: fx.Node) -> fx.Node:
    """The convolution (or linear layer) with the batch norm after it multiplied into weight and bias.

    w' = w g / sqrt(v + eps) for each output channel, b' = (b - m) g / sqrt(v + eps) + beta; computed in float64.
    """
    foldable = (*KINDS["convolution"], "linear")
    if operation_name(convolution) not in foldable or operation_name(norm) != "batch_norm" or norm.kwargs["training"]:
        raise ValueError(
            "fold_batch_norm takes a convolution or linear layer and a batch norm with training=false, not"
            f" {operation_name(convolution)} and {operation_name(norm)}"
        )
    # In evaluation mode a batch norm is y -> (y - m) g / sqrt(v + eps) + beta with constants, so it commutes into the
    # convolution: (w x + b - m) s + beta = (w s) x + (b - m) s + beta, where s = g / sqrt(v + eps).
    weight, bias = map(site.tensor, convolution.args[1:3])
    mean, variance, gain, shift = map(site.tensor, norm.args[1:5])
    assert weight is not None, "convolutions have weights"
    assert mean is not None, "outside training a batch norm has statistics"
    assert variance is not None, "outside training a batch norm has statistics"
    scale = (variance.double() + norm.kwargs["eps"]).rsqrt()  # pyright: ignore[reportOperatorIssue]
    scale = scale if gain is None else scale * gain.double()
    old = torch.zeros_like(mean) if bias is None else bias
    new_bias = (old.double() - mean.double()) * scale + (0 if shift is None else shift.double())
    if operation_name(convolution).startswith("conv_transpose"):
        # A transposed convolution stores (inputs, outputs / groups, ...): the outputs of a group are in dimension one,
        # and the groups are blocks of dimension zero.
        groups: Any = convolution.kwargs["groups"]
        grouped = weight.double().reshape(groups, -1, *weight.shape[1:])
        scales = scale.reshape(groups, 1, weight.shape[1], *(1,) * (weight.dim() - 2))
        folded = (grouped * scales).reshape(weight.shape)
    else:
        folded = weight.double() * scale.reshape(-1, *(1,) * (weight.dim() - 1))
    path = str(convolution.args[1].target)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    new_weight = site.new_parameter(path, folded.to(weight.dtype).detach())
    bias_node = site.new_parameter(f"{path.removesuffix('weight')}bias", new_bias.to(weight.dtype).detach())
    return site.call(operation_name(convolution), [convolution.args[0], new_weight, bias_node], convolution.kwargs)


TRANSFORMS: Mapping[str, Callable[..., Any]] = {
    "shape": shape,
    "uniform_like": uniform_like,
    "fold_batch_norm": fold_batch_norm,
}
"""The functions that a rewrite may call besides the operations."""

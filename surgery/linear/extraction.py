"""W and b of a linear sub-network (section 3.1, Algorithm 1): F_linear(x) = W^T x + b, in few batched products."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.errors import CertificateError, InputError
from surgery.graph import Graph, computing, depends_on_input, trace
from surgery.linear.certificate import AffineCertificate, certify, offenders
from surgery.linear.features import node_at
from surgery.linear.transpose import Transpose

SAFE_RANGE = 1e30
"""Scales (or their inverse) beyond which float32 could overflow in between; then float64 is used."""

Progress = Callable[[int, int], None]
"""Called with the cotangents done and their number."""


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """An affine map of images.

    `weight` is `(classes, channels, height, width)`: `weight[i]` is the gradient of output i with respect to the image.
    `bias` is `(classes,)`, the output for a zero image. `output_shape` is `(classes,)`, or the shape of an inner node
    whose entries the rows enumerate. `provenance` says how the map was computed.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    output_shape: tuple[int, ...]
    class_names: tuple[str, ...] | None
    provenance: Mapping[str, str | int | float]

    @property
    def matrix(self) -> torch.Tensor:
        """W as in the paper, `(D, K)`: column i belongs to class i. A view of `weight`."""
        return self.weight.flatten(1).T

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[1:])

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """W^T x + b for `(batch, *input_shape)` images: `(batch, classes)`."""
        return images.flatten(1).to(self.weight.dtype) @ self.matrix + self.bias


def extract(
    graph: Graph,
    *,
    at: str | None = None,
    certificate: AffineCertificate | None = None,
    class_names: tuple[str, ...] | None = None,
    max_memory: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> LinearMap:
    """Compute the weight matrix and bias of an affine graph, or of its inner node `at` (a node's name or module path).

    Cotangents are pulled back in chunks that stay within `max_memory` bytes (default: a quarter of what is free). Where
    all paths lead through a node narrower than the output, the basis of that node is pulled back and multiplied: the
    same W in fewer products. `dtype` defaults to float32, or float64 where the certificate's scales could overflow it;
    `device` to that of the graph. `certificate` saves the probes if there is one already.

    Raises CertificateError for a graph that is not certified affine, InputError for an unknown `at`.
    """
    certificate = _certified(graph, certificate)
    output = _node(graph, at)
    device = torch.device(device) if device is not None else _device(graph)
    dtype = dtype or _safe_dtype(certificate)
    start = time.perf_counter()
    shape = _sizes(output)
    rows = _numel(shape)
    waist = _waist(graph, output)
    basis = output if waist is None else waist
    width = _numel(_sizes(basis))
    chunk = _chunk(graph, width, max_memory, device, dtype)
    bias = Transpose(graph, 1, device=device, dtype=dtype).value_at_zero(output).reshape(-1).clone()
    mixing = None if waist is None else _mixing(graph, output, waist, device, dtype)
    weight = torch.zeros((rows, *graph.input_shape), dtype=dtype, device=device)
    for first in range(0, width, chunk):
        count = min(chunk, width - first)
        transpose = Transpose(graph, count, device=device, dtype=dtype)
        pulled = transpose.pull(basis, _basis(first, count, _sizes(basis), device, dtype)).flatten(1)
        if mixing is None:
            weight[first : first + count] = pulled.reshape(count, *graph.input_shape)
        else:
            weight.view(rows, -1).addmm_(mixing[:, first : first + count], pulled)
        if progress is not None:
            progress(first + count, width)
    return LinearMap(
        weight=weight,
        bias=bias,
        output_shape=shape,
        class_names=class_names,
        provenance={
            "model": graph.model_name,
            "node": output.name,
            "basis": basis.name,
            "products": width,
            "chunk": chunk,
            "dtype": str(dtype).removeprefix("torch."),
            "device": str(device),
            "certificate": certificate.reason,
            "seconds": time.perf_counter() - start,
        },
    )


def local_map(
    model: torch.nn.Module,
    image: torch.Tensor,
    *,
    class_names: tuple[str, ...] | None = None,
) -> LinearMap:
    """The linear map that a network, activations and all, is close to at one image: its Jacobian, for comparison.

    `image` is `(channels, height, width)`. The bias makes the map exact at the image.
    """
    graph = trace(model, image[None])
    outputs = graph(image[None])
    classes = outputs.shape[1]
    leaf = image.detach().expand(classes, *image.shape).clone().requires_grad_()
    with torch.enable_grad():
        values = graph(leaf)
        [weight] = torch.autograd.grad(values.diagonal().sum(), leaf)
    bias = values[0].detach() - weight.flatten(1) @ image.flatten()
    provenance = {"model": graph.model_name, "node": "output", "point": "one image"}
    return LinearMap(weight=weight, bias=bias, output_shape=(classes,), class_names=class_names, provenance=provenance)


def _certified(graph: Graph, certificate: AffineCertificate | None) -> AffineCertificate:
    found = offenders(graph)
    certificate = certificate if certificate is not None and not found else certify(graph)
    if not certificate.affine:
        named = "".join(f"\n  {offender}" for offender in certificate.offenders[:8])
        raise CertificateError(
            f"{graph.model_name} has no weight matrix, because it is not certified affine: {certificate.reason}{named}",
            hint="linearize it first, with a ruleset that deals with these operations",
        )
    return certificate


def _node(graph: Graph, at: str | None) -> fx.Node:
    """The node called `at`, or the last one of the module at that path; the output by default.

    Raises InputError where its value is not one tensor with one row for each image: with windows or heads in the first
    dimension, `4*N` rows do not say which image they belong to.
    """
    output = next(node for node in graph.graph.nodes if node.op == "output")
    value: Any = output.args[0] if at is None else node_at(graph, at)
    if not isinstance(value, fx.Node):
        raise InputError(f"{graph.model_name} returns several tensors", hint="name the node of one of them with at")
    shape = value.meta["shape"]
    if shape is None:
        raise InputError(f"the value of {value.name} is not one tensor", hint="name a node that reads it")
    if not shape or shape[0] != "N":
        sizes = ", ".join(map(str, shape))
        raise InputError(
            f"the value of {value.name} has the shape ({sizes}); expected (N, ...), one row for each of N images",
            hint="name another node; surgery inspect prints the shapes of all",
        )
    return value


def _waist(graph: Graph, output: fx.Node) -> fx.Node | None:
    """The narrowest node that all paths from the input to `output` lead through, if it is narrower than `output`."""
    dependent = depends_on_input(graph.graph)
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    best, reach = output, -1
    for node in graph.graph.nodes:
        if node not in dependent or node.op == "output":
            continue
        if node is output:
            break
        is_tensor = node.meta["shape"] is not None and node.op != "placeholder"
        if reach <= order[node] and is_tensor and _numel(_sizes(node)) <= _numel(_sizes(best)):
            best = node
        reach = max([reach, *(order[user] for user in node.users if order[user] <= order[output])])
    return best if best is not output and _numel(_sizes(best)) < _numel(_sizes(output)) else None


def _mixing(graph: Graph, output: fx.Node, waist: fx.Node, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The map from the waist to the output, `(rows, width of the waist)`."""
    rows = _numel(_sizes(output))
    transpose = Transpose(graph, rows, device=device, dtype=dtype)
    return transpose.pull(output, _basis(0, rows, _sizes(output), device, dtype), to=waist).flatten(1)


def _basis(first: int, count: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The unit vectors `first` to `first + count` of a space of the given shape."""
    rows = torch.zeros((count, _numel(shape)), dtype=dtype, device=device)
    rows[torch.arange(count), torch.arange(first, first + count)] = 1
    return rows.reshape(count, *shape)


def _sizes(node: fx.Node) -> tuple[int, ...]:
    """The sizes of one image's value of a node; only values of the form (N, ...) can be told apart by image."""
    shape = node.meta["shape"]
    if not shape or shape[0] != "N":
        return (1 << 62,)
    return tuple(shape[1:])


def _numel(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def _device(graph: Graph) -> torch.device:
    return next((tensor.device for tensor in graph.tensors().values()), torch.device("cpu"))


def _safe_dtype(certificate: AffineCertificate) -> torch.dtype:
    scales = [scale for scale in certificate.scales.values() if scale > 0]
    spread = max(scales, default=1.0) / min(scales, default=1.0)
    extreme = max([spread, *scales, *(1 / scale for scale in scales)], default=1.0)
    return torch.float64 if extreme > SAFE_RANGE else torch.float32


def _chunk(graph: Graph, width: int, max_memory: int | None, device: torch.device, dtype: torch.dtype) -> int:
    """How many cotangents fit: each needs about three values of the widest places at once."""
    dependent = depends_on_input(graph.graph)
    sizes = sorted((_elements(node) for node in computing(graph) if node in dependent), reverse=True)
    each = sum(sizes[:6]) * dtype.itemsize
    budget = max_memory if max_memory is not None else _free_memory(device) // 4
    return max(1, min(width, MOST_ELEMENTS // max(sizes[0], 1), budget // max(each, 1)))


MOST_ELEMENTS = 1 << 23
"""Numbers in the largest value of a chunk. Larger ones leave the caches: on two cores ResNet-50 at 224 pixels took
74 ms a cotangent with 8 at a time and 149 ms with 32.
"""


def _elements(node: fx.Node) -> int:
    first, second = node.meta["twins"]
    if not isinstance(first, torch.Tensor):
        return 0
    return second.numel() - first.numel()


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

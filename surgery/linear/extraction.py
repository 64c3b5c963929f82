"""W and b of a linear sub-network (section 3.1, Algorithm 1): F_linear(x) = W^T x + b, in few batched products."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from html import escape
from textwrap import shorten
from typing import Any

import torch
from torch import fx, nn

from surgery.errors import CertificateError, InputError
from surgery.graph import Graph, computing, trace
from surgery.linear.certificate import AffineCertificate, Rewritten, certificate_of, graph_of, offenders
from surgery.linear.features import node_at
from surgery.linear.linearization import Rules, linearize
from surgery.linear.transpose import Transpose
from surgery.torch_state import torch_state

SAFE_RANGE = 1e30
"""Scales (or their inverse) beyond which float32 could overflow in between; then float64 is used."""

MOST_ELEMENTS = 1 << 23
"""Numbers in the largest value of a chunk. Larger ones leave the caches: on two cores ResNet-50 at 224 pixels took
74 ms a cotangent with 8 at a time and 149 ms with 32.
"""

Progress = Callable[[int, int], None]
"""Called with the number of cotangents done and the number of all."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearMap:
    """An affine map of images.

    `weight` is `(classes, channels, height, width)`: `weight[i]` is the gradient of output i with respect to the image.
    `bias` is `(classes,)`, the output for a zero image. `output_shape` is `(classes,)`, or the shape of an inner node
    whose entries the rows enumerate. `provenance` describes the computation; `certificate` shows that the network is
    this map. A local map has no certificate.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    output_shape: tuple[int, ...]
    class_names: tuple[str, ...] | None
    provenance: Mapping[str, str | int | float]
    certificate: AffineCertificate | None = None

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

    def __str__(self) -> str:
        rows = self.weight.flatten(1)
        scale = float(rows.abs().max()) or 1.0  # squares of 1e200 would overflow
        norms = [scale * float(row) for row in (rows / scale).norm(dim=1)]
        names = self.class_names or tuple(map(str, range(len(norms))))
        shown = shorten(", ".join(names[:10]) + (", ..." if len(names) > 10 else ""), 200, placeholder=" ...")
        facts = {key: value for key, value in self.provenance.items() if key not in ("model", "certificate")}
        return "\n".join(
            [
                f"Linear map of {self.provenance.get('model', 'a network')}",
                f"  weight {tuple(self.weight.shape)}, bias {tuple(self.bias.shape)}, {self.weight.dtype} on "
                f"{self.weight.device}",
                f"  {len(names)} outputs: {shown}",
                f"  norms of the weight vectors from {min(norms):.3g} to {max(norms):.3g}",
                "  "
                + ", ".join(
                    f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in facts.items()
                ),
            ]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


@torch_state(gradients=False)
def extract(
    network: nn.Module | Rewritten,
    example: torch.Tensor | None = None,
    *,
    rules: Rules | None = None,
    at: str | None = None,
    certificate: AffineCertificate | None = None,
    class_names: tuple[str, ...] | None = None,
    max_memory: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> LinearMap:
    """Compute the weight matrix and bias of an affine network, or of its inner node `at`, a node's name or module path.

    `network` is a graph, the result of `linearize` or `apply`, or a module with an `example` input. An affine network
    is used unchanged; `rules` linearize any other, which is refused without rules.

    Cotangents are pulled back in chunks that stay within `max_memory` bytes (default: a quarter of the free memory).
    Where all paths lead through a node narrower than the output, the basis of that node is pulled back and multiplied:
    the same W in fewer products. `dtype` defaults to float32, or to float64 where the certificate's scales could
    overflow it; `device` to that of the graph. A graph carries its certificate (`certificate_of`); a given
    `certificate` is used without a check that it belongs to this graph. `class_names`: those of the graph by default.

    Raises CertificateError for a network that is not certified affine, InputError for an unknown `at`, one without
    one row for each image, or another number of class names.
    """
    graph = graph_of(network, example)
    class_names = class_names or (graph.class_names if at is None else None)
    if rules is not None and offenders(graph):
        graph, certificate = linearize(graph, rules=rules).module, None
    if certificate is None or offenders(graph):
        certificate = certificate_of(graph)
    if not certificate.affine:
        named = "".join(f"\n  {offender}" for offender in certificate.offenders[:8])
        raise CertificateError(
            f"{graph.model_name} has no weight matrix, because it is not certified affine: {certificate.reason}{named}",
            hint=certificate.advice,
        )
    output = _node(graph, at)
    device = torch.device(device) if device is not None else _device(graph)
    dtype = dtype or _safe_dtype(certificate)
    start = time.perf_counter()
    shape = _sizes(output)
    rows = math.prod(shape)
    if class_names is not None and len(class_names) != rows:
        if class_names != graph.class_names:
            raise InputError(
                f"expected {rows} class names, one for each output of {output.name}; got {len(class_names)}"
            )
        class_names = None  # rules changed the output: its entries are not the classes any more
    single = Transpose(graph, 1, device=device, dtype=dtype)
    waist = _waist(graph, output, single.dependent)
    basis = output if waist is None else waist
    width = math.prod(_sizes(basis))
    chunk = _chunk(graph, single.dependent, width, max_memory, device, dtype)
    bias = single.value_at_zero(output).reshape(-1).clone()
    mixing = None
    if waist is not None:  # the map from the waist to the output, `(rows, width)`
        mixing = single.of(rows).pull(output, _basis(0, rows, shape, device, dtype), to=waist).flatten(1)
    weight = torch.zeros((rows, *graph.input_shape), dtype=dtype, device=device)
    transpose = single
    for first in range(0, width, chunk):
        count = min(chunk, width - first)
        transpose = transpose.of(count)
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
        certificate=certificate,
    )


@torch_state(gradients=True)
def local_map(
    model: nn.Module,
    image: torch.Tensor,
    *,
    class_names: tuple[str, ...] | None = None,
) -> LinearMap:
    """The local linear map of a network with its activations at one image: its Jacobian, for comparison.

    `image` is `(channels, height, width)`. The bias makes the map exact at the image.
    """
    graph = trace(model, image[None])
    outputs = graph(image[None])
    classes = outputs.shape[1]
    leaf = image.detach().expand(classes, *image.shape).clone().requires_grad_()
    values = graph(leaf)
    [weight] = torch.autograd.grad(values.diagonal().sum(), leaf)
    bias = values[0].detach() - weight.flatten(1) @ image.flatten()
    provenance = {"model": graph.model_name, "node": "output", "point": "one image"}
    names = class_names or graph.class_names
    return LinearMap(weight=weight, bias=bias, output_shape=(classes,), class_names=names, provenance=provenance)


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


def _waist(graph: Graph, output: fx.Node, dependent: Set[fx.Node]) -> fx.Node | None:
    """The narrowest node that all paths from the input to `output` lead through, if it is narrower than `output`."""
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    best, best_width = None, math.prod(_sizes(output))
    reach = -1  # the last place where a value from before the current node is read
    for node in graph.graph.nodes:
        if node is output:
            break
        if node not in dependent:
            continue
        shape = node.meta["shape"]
        # Nothing jumps over the node, so it is on every path; values that are not (N, ...) have no rows to pull back.
        if reach <= order[node] and node.op != "placeholder" and shape and shape[0] == "N":
            width = math.prod(shape[1:])
            # Of equally narrow nodes the last, which leaves the least work between it and the output; but not the
            # output's own width, which would save nothing.
            if width < best_width or (best is not None and width == best_width):
                best, best_width = node, width
        reach = max([reach, *(order[user] for user in node.users if order[user] <= order[output])])
    return best


def _basis(first: int, count: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The unit vectors `first` to `first + count` of a space of the given shape."""
    rows = torch.zeros((count, math.prod(shape)), dtype=dtype, device=device)
    rows[torch.arange(count), torch.arange(first, first + count)] = 1
    return rows.reshape(count, *shape)


def _sizes(node: fx.Node) -> tuple[int, ...]:
    """The sizes of one image's value of a node of shape (N, ...)."""
    return tuple(node.meta["shape"][1:])


def _device(graph: Graph) -> torch.device:
    return next((tensor.device for tensor in graph.tensors().values()), torch.device("cpu"))


def _safe_dtype(certificate: AffineCertificate) -> torch.dtype:
    scales = [scale for scale in certificate.scales.values() if scale > 0]
    spread = max(scales, default=1.0) / min(scales, default=1.0)
    extreme = max([spread, *scales, *(1 / scale for scale in scales)], default=1.0)
    return torch.float64 if extreme > SAFE_RANGE else torch.float32


def _chunk(
    graph: Graph,
    dependent: Set[fx.Node],
    width: int,
    max_memory: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    """How many cotangents fit: each needs about three values of the widest places at once."""
    sizes: list[int] = []
    for node in computing(graph):
        first, second = node.meta["twins"]
        if node in dependent and isinstance(first, torch.Tensor):
            sizes.append(second.numel() - first.numel())  # the twins are batches of two and three: one image's share
    sizes.sort(reverse=True)
    each = sum(sizes[:6]) * dtype.itemsize
    budget = max_memory if max_memory is not None else _free_memory(device) // 4
    return max(1, min(width, MOST_ELEMENTS // max(sizes[0], 1), budget // max(each, 1)))


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

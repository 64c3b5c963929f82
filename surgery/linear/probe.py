"""Running a graph in float64 on three images at once: two random ones and an affine combination of the two."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from surgery.graph import Graph, attribute, depends_on_input, shapes
from surgery.graph.builder import twins_of
from surgery.graph.shapes import BATCHES

COEFFICIENT = -0.7
"""The a of a x + (1 - a) y; outside [0, 1] and no simple fraction, which odd or even functions would pass."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The measurements of the probes; `obstacle` is the reason why nothing can be concluded, or None."""

    scales: Mapping[str, float]
    superposition_error: float
    obstacle: str | None


def probe(graph: Graph, *, generator: torch.Generator | None = None) -> Probe:
    """Measure scales and superposition. Where a constant part drowns the linear one, probe again with larger images.

    The scale of a node is the root mean square of F(x) - F(y), over the square root of two, for standard normal images:
    that of its linear part.
    """
    misaligned = _misaligned_output(graph)
    if misaligned is not None:
        return Probe(scales={}, superposition_error=math.nan, obstacle=misaligned)
    generator = generator or torch.Generator().manual_seed(0)
    x, y = torch.randn((2, *graph.input_shape), generator=generator, dtype=torch.float64)
    device = next((tensor.device for tensor in graph.tensors().values()), torch.device("cpu"))
    images = torch.stack([x, y, COEFFICIENT * x + (1 - COEFFICIENT) * y]).to(device)
    scales, error, ratio = _measure(graph, images, 1.0)
    if 1.0 < ratio < math.inf:
        # Rounding of the constant part is as large as the linear part; images of its size bring both to one level.
        _, error, _ = _measure(graph, images * ratio, ratio)
    return Probe(scales=scales, superposition_error=error, obstacle=obstacle(graph, scales))


def _misaligned_output(graph: Graph) -> str | None:
    """Why the values of the output cannot be assigned to images, or None: they need k rows for each image."""
    output = next(node for node in graph.graph.nodes if node.op == "output")
    first, second = (list(tensors_in(twin)) for twin in twins_of(output.args))
    for one, other in zip(first, second, strict=True):
        sizes = (*one.shape[:1], *other.shape[:1])
        rows = sizes[0] // BATCHES[0] if sizes else 0
        if not rows or sizes != (rows * BATCHES[0], rows * BATCHES[1]):
            shape = ", ".join(map(str, shapes.shape((one, other)) or ()))
            return f"an output has the shape ({shape}), whose first dimension is not the images, so probes see none"
    return None


def run(graph: Graph, images: torch.Tensor, *, dtype: torch.dtype = torch.float64) -> Iterator[tuple[fx.Node, Any]]:
    """Run `graph` in `dtype` whatever the dtype of its weights, yielding each node with its value.

    A value is dropped once its last reader has run; a weight is converted when it is read.
    """
    last = {read: node for node in graph.graph.nodes for read in node.all_input_nodes}
    spent: dict[fx.Node, list[fx.Node]] = {}
    for read, node in last.items():
        spent.setdefault(node, []).append(read)
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in graph.graph.nodes:
            values[node] = _converted(_value(graph, node, values, images, dtype), dtype)
            yield node, values[node]
            for read in spent.get(node, ()):
                del values[read]


def _value(graph: Graph, node: fx.Node, values: Mapping[fx.Node, Any], images: torch.Tensor, dtype: torch.dtype) -> Any:
    if node.op == "placeholder":
        return images
    if node.op == "get_attr":
        return attribute(graph, str(node.target))
    args = map_arg(node.args, values.__getitem__)
    if node.op == "output":
        return args[0]
    function: Callable[..., Any] = node.target  # pyright: ignore[reportAssignmentType]  # calls have callable targets
    kwargs = map_arg(dict(node.kwargs), values.__getitem__)
    return function(*args, **{key: dtype if _is_float(item) else item for key, item in kwargs.items()})


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value.is_floating_point


def _converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if type(value) in (tuple, list):
        return type(value)(_converted(item, dtype) for item in value)
    return value


def _measure(graph: Graph, images: torch.Tensor, amplitude: float) -> tuple[dict[str, float], float, float]:
    """Scales by node, the relative superposition error, and how much larger than the linear part the constant part
    is.
    """
    dependent = depends_on_input(graph.graph)
    scales: dict[str, float] = {}
    errors, ratios = [0.0], [0.0]
    for node, value in run(graph, images):
        if node not in dependent or node.op == "placeholder":
            continue
        if node.op == "output":
            for tensor in tensors_in(value):
                error, ratio = _superposition(tensor)
                errors.append(error)
                ratios.append(ratio)
        elif is_scaled(value):
            scales[node.name] = _scale(value) / amplitude
    return scales, _largest(errors), _largest(ratios)


def is_scaled(value: Any) -> bool:
    """True for a value that has a scale: a floating-point tensor."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _largest(values: list[float]) -> float:
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in an output: itself, in dicts, tuples and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def _scale(value: torch.Tensor) -> float:
    """Values are `(3 k, ...)`: k rows for each image, as windows and heads make them."""
    if not value.shape or value.shape[0] % 3:
        return _root_mean_square(value)
    x, y, _ = value.chunk(3)
    return _root_mean_square(x - y) / math.sqrt(2)


def _root_mean_square(value: torch.Tensor) -> float:
    largest = float(value.abs().max())
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * float((value / largest).square().mean().sqrt())  # squares of 1e200 would overflow


def _superposition(value: torch.Tensor) -> tuple[float, float]:
    """The deviation from F(a x + (1 - a) y) = a F(x) + (1 - a) F(y), and the size of F(x), relative to F(x) - F(y)."""
    x, y, combined = value.chunk(3)
    size = float((x - y).abs().max())
    error = float((combined - COEFFICIENT * x - (1 - COEFFICIENT) * y).abs().max())
    return (error / size, float(x.abs().max()) / size) if size else (math.nan, math.inf)


def obstacle(graph: Graph, scales: Mapping[str, float]) -> str | None:
    """The reason why probes with these scales allow no conclusion, or None.

    They need an output with rows for each image, no infinite or NaN signal anywhere, and an output that is not zero.
    """
    misaligned = _misaligned_output(graph)
    if misaligned is not None:
        return misaligned
    broken = next(((name, scale) for name, scale in scales.items() if not math.isfinite(scale)), None)
    if broken is None:
        output = next(node for node in graph.graph.nodes if node.op == "output")
        tensors = [node.name for node in output.all_input_nodes if isinstance(node.meta["twins"][0], torch.Tensor)]
        broken = next(((name, 0.0) for name in tensors if scales.get(name, 0.0) == 0.0), None)
    if broken is None:
        return None
    name, scale = broken
    what = "NaN" if math.isnan(scale) else "infinite" if scale else "zero"
    return f"the signal is {what} at {name}; nothing can be concluded from it"

"""The certificate that a graph is affine in its input: a static law for every node, confirmed by probes in float64.

Probes alone can mislead: where a network's output vanishes, every superposition test passes. Static laws alone rely on
the vocabulary. A certificate needs both, and refuses to conclude where the probes see no signal.

Probes cost as much as several extractions, so a graph and its file keep their measurements, scales and superposition
error, as long as nodes and weights stay the same (`surgery.graph.digests`). The static laws are checked every time, and
the verdict is concluded from them and from the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from os import PathLike
from typing import Any, Literal, Protocol

import torch
from torch import fx, nn

from surgery.errors import InputError
from surgery.graph import Graph, Place, computing, depends_on_input, nodes_in, operation_name, operation_of, trace
from surgery.graph.digests import recall, remember
from surgery.graph.memory import check_memory
from surgery.linear.probe import Probe, is_scaled, obstacle, probe
from surgery.rewrite import Plan
from surgery.torch_state import torch_state

TOLERANCE = 1e-8
"""Largest deviation from superposition, relative to the output's linear part, that float64 rounding explains in deep
nets.
"""

Verdict = Literal["affine", "nonlinear", "inconclusive"]

_SHOWN = 10
"""Offenders that a printed certificate names."""


@dataclass(frozen=True, kw_only=True)
class Offender:
    """A node that is not affine in its inputs, even if its inputs are affine in the network's input."""

    node: str
    operation: str
    reason: str
    module_path: str
    file: str | None
    line: int | None

    def __str__(self) -> str:
        place = Place(module_path=self.module_path, file=self.file, line=self.line)
        return f"{self.node} ({self.operation}): {self.reason}, at {place}"


@dataclass(frozen=True, kw_only=True, repr=False)
class AffineCertificate:
    """The verdict whether a graph is affine in its input, with its measurements.

    `scales` maps each node that depends on the input to the root mean square of its linear part for a standard normal
    input; `superposition_error` is the largest deviation from superposition at the output, relative to its linear part.
    They are empty and None if the static laws have refused the graph.
    """

    verdict: Verdict
    reason: str
    offenders: tuple[Offender, ...]
    scales: Mapping[str, float]
    superposition_error: float | None
    tolerance: float

    @property
    def affine(self) -> bool:
        """True only where the static laws and the probes agree."""
        return self.verdict == "affine"

    @property
    def advice(self) -> str:
        """What helps against this verdict: rules where operations are not affine, other scales where probes fail."""
        if self.offenders:
            return "linearize it first, with a ruleset that deals with these operations"
        if any(scale == 0 or not math.isfinite(scale) for scale in self.scales.values()):
            return (
                "the scales of the layers multiply to a number outside float64, or a weight is not finite: multiply "
                "the weights of layers by constants, or keep batch norms with the ruleset linearize-keep-bn"
            )
        return "every operation is affine by its law, so no rule is missing; check what the network returns"

    @property
    def output_scale(self) -> float | None:
        """The scale of the last node: the scale of the sub-network's output for a standard normal input."""
        return list(self.scales.values())[-1] if self.scales else None

    def __str__(self) -> str:
        lines = [f"Certificate: {self.verdict}"]
        if self.offenders:
            lines.append(f"  {len(self.offenders)} operations not affine:")
            lines += [f"    {offender}" for offender in self.offenders[:_SHOWN]]
            hidden = len(self.offenders) - _SHOWN
            lines += [f"    ... and {hidden} more in .offenders"] if hidden > 0 else []
        else:
            lines.append(f"  {self.reason}")
        if self.scales:
            values = self.scales.values()
            lines.append(
                f"  scales of {len(values)} nodes from {min(values):.3g} to {max(values):.3g}, "
                f"of the output {self.output_scale:.3g}"
            )
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


class Rewritten(Protocol):
    """A result that holds a graph: that of `linearize` or `apply`, or a model that `open_model` opened."""

    @property
    def module(self) -> nn.Module: ...


def graph_of(network: nn.Module | Rewritten, example: torch.Tensor | None = None) -> Graph:
    """`network` as a graph: a graph unchanged, the graph of a result, or a module traced with `example`.

    `example` is `(batch, channels, height, width)`; only its shape and dtype matter, and a graph needs none.

    Raises InputError for other objects, and for a module without an example.
    """
    module = network if isinstance(network, nn.Module) else getattr(network, "module", None)
    if not isinstance(module, nn.Module):
        given = f"the path {str(network)!r}" if isinstance(network, (str, PathLike)) else type(network).__name__
        opener = "surgery.load_model opens a model file" if isinstance(network, (str, PathLike)) else None
        if isinstance(network, Plan):
            opener = "surgery.apply(plan) makes the rewritten graph"
        raise InputError(f"expected a network (a torch module, or a graph of surgery.trace), got {given}", hint=opener)
    if example is not None:
        return trace(module, example)
    if isinstance(module, Graph):
        return module
    raise InputError(
        f"{type(module).__name__} has to be traced; expected an example input",
        hint="give one as the second argument, as in torch.zeros(1, 3, 32, 32)",
    )


@torch_state(gradients=False)
def certify(
    network: nn.Module | Rewritten,
    example: torch.Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    tolerance: float = TOLERANCE,
) -> AffineCertificate:
    """Certify that a network is affine in its input: F(a x + (1 - a) y) = a F(x) + (1 - a) F(y).

    `network` is a graph, the result of `linearize` or `apply`, or a module with an `example` input. `generator` draws
    the probes (a fixed seed by default). The probes run on the graph's device, in float64, weight by weight, so memory
    beyond the graph's stays near one layer's. `certify` always measures; `certificate_of` measures only what the graph
    does not carry yet.

    Raises InputError and TraceError as `graph_of` does.
    """
    graph = graph_of(network, example)
    found = offenders(graph)
    if found:
        return _conclude(None, found, tolerance)
    check_memory(graph, 6)  # three images, whose float64 values take twice the memory
    result = probe(graph, generator=generator)
    certificate = _conclude(result, (), tolerance)
    if certificate.affine and generator is None:
        remember(graph, {"scales": dict(result.scales), "superposition_error": result.superposition_error})
    return certificate


@torch_state(gradients=False)
def certificate_of(graph: Graph) -> AffineCertificate:
    """The certificate that `graph` carries, if nodes and weights have not changed since; else that of `certify`.

    A graph carries a certificate from `certify`, `linearize` or its file. Someone who writes false numbers into a file
    together with their digest can make scales wrong, but no operation passes that is not affine by its law.
    """
    found = offenders(graph)
    carried = None if found else _carried_probe(graph)
    return certify(graph) if carried is None else _conclude(carried, (), TOLERANCE)


def _carried_probe(graph: Graph) -> Probe | None:
    """The measurements that `graph` carries, if they can be those of this graph."""
    match recall(graph):
        case {"scales": dict(scales), "superposition_error": float(error)}:
            pass
        case _:
            return None
    dependent = depends_on_input(graph.graph)
    names = [node.name for node in computing(graph) if node in dependent and is_scaled(node.meta["twins"][0])]
    # Only certificates of affine graphs are remembered; a file can say anything.
    if list(scales) != names or not all(isinstance(scale, float) for scale in scales.values()):
        return None
    if not 0 <= error <= TOLERANCE or obstacle(graph, scales) is not None:
        return None
    return Probe(scales=dict(scales), superposition_error=error, obstacle=None)


def offenders(graph: Graph) -> tuple[Offender, ...]:
    """The nodes that are not affine by the vocabulary's static laws, in order; empty for an affine graph."""
    dependent = depends_on_input(graph.graph)
    found: list[Offender] = []
    for node in computing(graph):
        reason = _nonaffine_reason(node, dependent) if node in dependent else None
        if reason is not None:
            place = Place.of(node)
            found.append(
                Offender(
                    node=node.name,
                    operation=operation_name(node),
                    reason=reason,
                    module_path=place.module_path,
                    file=place.file,
                    line=place.line,
                )
            )
    return tuple(found)


def _nonaffine_reason(node: fx.Node, dependent: set[fx.Node]) -> str | None:
    """Why `node` is not affine in its operands, or None."""
    operation = operation_of(node)
    if operation is None:
        return "the vocabulary does not know this operation"
    if any(item in dependent for item in nodes_in(dict(node.kwargs))):
        return "data-dependent index" if "indexing" in operation.kinds else "an attribute depends on the input"
    # The operands of `cat` and `stack` come as one list; a law sees each of them.
    operands: Any = node.args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = operands[0]
    flags = [any(item in dependent for item in nodes_in(operand)) for operand in operands]
    # The exponent of a power is an operand, but its law has to see its value.
    exponent = {"exponent": operands[1]} if operation.name == "pow" else {}
    return operation.law({**node.kwargs, **exponent}, flags)


def _conclude(result: Probe | None, found: tuple[Offender, ...], tolerance: float) -> AffineCertificate:
    """The certificate of a graph from its probes, or without any from its offenders."""
    verdict: Verdict = "inconclusive"
    if result is None:
        verdict, reason = "nonlinear", str(found[0])
    elif result.obstacle is not None:
        reason = result.obstacle
    elif not math.isfinite(result.superposition_error):
        reason = "the signal of the probes overflows or vanishes at the output"
    elif result.superposition_error > tolerance:
        failed = f"superposition fails by {result.superposition_error:.1e} of the output"
        verdict, reason = "nonlinear", f"{failed}, although every node is affine by its law"
    else:
        holds = f"superposition holds to {result.superposition_error:.1e} of the output"
        verdict, reason = "affine", f"every node is affine by its law; {holds}"
    return AffineCertificate(
        verdict=verdict,
        reason=reason,
        offenders=found,
        scales={} if result is None else result.scales,
        superposition_error=None if result is None else result.superposition_error,
        tolerance=tolerance,
    )

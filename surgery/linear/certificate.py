"""Is a graph affine in its input? A static law for every node, confirmed by probes in float64.

Probes alone lie: where a network's output vanishes, every superposition test passes. Static laws alone trust the
vocabulary. A certificate needs both, and refuses to conclude where the probes see no signal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx

from surgery.graph import Graph, Place, computing, depends_on_input, nodes_in, operation_name, operation_of
from surgery.linear.probe import Probe, probe

TOLERANCE = 1e-8
"""Largest deviation from superposition, relative to the output's linear part, that float64 rounding explains in deep
nets.
"""

Verdict = Literal["affine", "nonlinear", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Offender:
    """A node that is not affine in what reaches it, although everything before it may be."""

    node: str
    operation: str
    reason: str
    module_path: str
    file: str | None
    line: int | None

    def __str__(self) -> str:
        place = Place(module_path=self.module_path, file=self.file, line=self.line)
        return f"{self.node} ({self.operation}): {self.reason}, at {place}"


@dataclass(frozen=True, kw_only=True)
class AffineCertificate:
    """What is known about a graph's being affine.

    `scales` maps each node that depends on the input to the root mean square of its linear part for a standard normal
    input; `superposition_error` is the largest deviation from superposition at the output, relative to its linear part.
    Both are empty or None where the static laws already said no.
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
    def output_scale(self) -> float | None:
        """The scale of the last node: what the sub-network makes of a standard normal input."""
        return list(self.scales.values())[-1] if self.scales else None


def certify(
    graph: Graph, *, generator: torch.Generator | None = None, tolerance: float = TOLERANCE
) -> AffineCertificate:
    """Certify that `graph` is affine in its input: F(a x + (1 - a) y) = a F(x) + (1 - a) F(y).

    `generator` draws the probes (a fixed seed by default). The graph is not changed; the probes run on its device, in
    float64, weight by weight, so memory beyond the graph's stays near one layer's.
    """
    found = offenders(graph)
    if found:
        return _verdict("nonlinear", str(found[0]), tolerance, found)
    result = probe(graph, generator=generator)
    verdict, reason = _judge(result, tolerance)
    return AffineCertificate(
        verdict=verdict,
        reason=reason,
        offenders=(),
        scales=result.scales,
        superposition_error=result.superposition_error,
        tolerance=tolerance,
    )


def offenders(graph: Graph) -> tuple[Offender, ...]:
    """The nodes that are not affine by the vocabulary's static laws, in order; empty for an affine graph."""
    dependent = depends_on_input(graph.graph)
    reasons = [(node, _reason(node, dependent)) for node in computing(graph) if node in dependent]
    return tuple(_offender(node, reason) for node, reason in reasons if reason is not None)


def _reason(node: fx.Node, dependent: set[fx.Node]) -> str | None:
    """Why `node` is not affine in its operands, or None."""
    operation = operation_of(node)
    if operation is None:
        return "the vocabulary does not know this operation"
    if any(item in dependent for item in nodes_in(dict(node.kwargs))):
        return "data-dependent index" if "indexing" in operation.kinds else "an attribute depends on the input"
    flags = [any(item in dependent for item in nodes_in(operand)) for operand in node.args]
    if len(node.args) == 1 and isinstance(node.args[0], (tuple, list)):
        flags = [item in dependent for item in nodes_in(node.args[0])]
    return operation.law(_with_exponent(node), flags)


def _with_exponent(node: fx.Node) -> Mapping[str, object]:
    """The attributes of a call; a power's exponent is an operand that its law has to see."""
    return {**node.kwargs, "exponent": node.args[1]} if operation_name(node) == "pow" else node.kwargs


def _offender(node: fx.Node, reason: str) -> Offender:
    place = Place.of(node)
    return Offender(
        node=node.name,
        operation=operation_name(node),
        reason=reason,
        module_path=place.module_path,
        file=place.file,
        line=place.line,
    )


def _judge(result: Probe, tolerance: float) -> tuple[Verdict, str]:
    """Conclude from the probes, or say why nothing can be concluded."""
    if result.obstacle is not None:
        return "inconclusive", result.obstacle
    error = result.superposition_error
    if not math.isfinite(error):
        return "inconclusive", "the signal of the probes overflows or vanishes at the output"
    if error > tolerance:
        return (
            "nonlinear",
            f"superposition fails by {error:.1e} of the output, although every node is affine by its law",
        )
    return "affine", f"every node is affine by its law; superposition holds to {error:.1e} of the output"


def _verdict(verdict: Verdict, reason: str, tolerance: float, found: tuple[Offender, ...]) -> AffineCertificate:
    return AffineCertificate(
        verdict=verdict, reason=reason, offenders=found, scales={}, superposition_error=None, tolerance=tolerance
    )

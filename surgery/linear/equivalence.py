"""Comparison of the functions of two graphs, for rulesets that promise the same function."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from surgery.graph import Graph
from surgery.linear.probe import run, tensors_in
from surgery.torch_state import torch_state

SAME_FUNCTION_TOLERANCE = 1e-5
"""Largest relative difference of outputs in float64 between a graph and one that promises the same function."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The largest difference of two graphs' outputs on random images, relative to the largest output, in float64."""

    difference: float
    tolerance: float

    @property
    def same(self) -> bool:
        return self.difference <= self.tolerance


@torch_state(gradients=False)
def compare(
    before: Graph,
    after: Graph,
    *,
    images: int = 4,
    generator: torch.Generator | None = None,
    tolerance: float = SAME_FUNCTION_TOLERANCE,
) -> Comparison:
    """Compare the functions of two graphs of the same input on `images` standard normal images."""
    generator = generator or torch.Generator().manual_seed(0)
    device = next((tensor.device for tensor in before.tensors().values()), torch.device("cpu"))
    batch = torch.randn((images, *before.input_shape), generator=generator, dtype=torch.float64).to(device)
    pairs = list(zip(*(_outputs(graph, batch) for graph in (before, after)), strict=True))
    size = max((float(first.abs().max()) for first, _ in pairs), default=0.0) or 1.0
    largest = max((float((first - second).abs().max()) for first, second in pairs), default=0.0)
    return Comparison(difference=largest / size, tolerance=tolerance)


def _outputs(graph: Graph, batch: torch.Tensor) -> list[torch.Tensor]:
    value = None
    for _, computed in run(graph, batch):
        value = computed
    return list(tensors_in(value))

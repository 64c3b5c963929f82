"""`linearize`: a model in, its certified linear sub-network out (Bai et al. 2021, section 3.1, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from surgery.graph import Edit, Graph, trace
from surgery.linear.certificate import AffineCertificate, certify
from surgery.rewrite import Plan, RuleSet, apply, plan


@dataclass(frozen=True, kw_only=True)
class Linearized:
    """A linear sub-network F_linear(x) = W^T x + b as a graph, with the log of how it came about and its
    certificate.
    """

    module: Graph
    log: tuple[Edit, ...]
    certificate: AffineCertificate
    plan: Plan
    before: Graph


def linearize(
    model: nn.Module,
    example: torch.Tensor,
    rules: str | Path | RuleSet | Sequence[str | Path | RuleSet] = "linearize",
) -> Linearized:
    """Trace `model`, apply `rules` and certify the result.

    `example` is `(batch, channels, height, width)`; only its shape and dtype matter. The model stays as it is. A result
    that is not affine is returned all the same: its certificate names the offenders.

    Raises TraceError, RuleError or RewriteError.
    """
    before = trace(model, example)
    planned = plan(before, rules)
    rewrite = apply(planned)
    return Linearized(
        module=rewrite.module,
        log=rewrite.log,
        certificate=certify(rewrite.module),
        plan=planned,
        before=before,
    )

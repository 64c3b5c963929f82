"""`linearize`: from a model to its certified linear sub-network (Bai et al. 2021, section 3.1, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from torch import nn

from surgery.errors import CertificateError
from surgery.graph import Edit, Graph, computing
from surgery.linear.certificate import AffineCertificate, Rewritten, certificate_of, graph_of
from surgery.linear.equivalence import Comparison, compare
from surgery.rewrite import Plan, RuleSet, apply, plan
from surgery.rewrite.ruleset import Promise
from surgery.torch_state import torch_state

Rules = str | Path | RuleSet | Sequence[str | Path | RuleSet]
"""A ruleset, by name, by path or as a value, or several of them."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Linearized:
    """A linear sub-network F_linear(x) = W^T x + b as a graph, with its certificate and the edits that made it.

    `before` is the graph as it was traced, `plan` what the rules do to it, `log` all edits since the trace.
    """

    module: Graph
    log: tuple[Edit, ...]
    certificate: AffineCertificate
    plan: Plan
    before: Graph

    def __str__(self) -> str:
        counts = {rule: count for rule, count in self.plan.counts().items() if count}
        before, after = len(computing(self.before)), len(computing(self.module))
        return "\n".join(
            [
                f"{self.module.model_name} linearized by {self.plan.rules.name}",
                f"  {before} operations before, {after} after; {len(self.plan.edits)} edits",
                *(f"    {rule}  {count}" for rule, count in counts.items()),
                str(self.certificate),
            ]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


@dataclass(frozen=True, kw_only=True, repr=False)
class CheckedRewrite:
    """A rewritten graph with the check of its promise.

    `certificate` is set if the promise is an affine result, `comparison` if it is the same function.
    """

    module: Graph
    log: tuple[Edit, ...]
    certificate: AffineCertificate | None
    comparison: Comparison | None

    def __repr__(self) -> str:
        checked = [str(item) for item in (self.certificate, self.comparison) if item is not None]
        return "\n".join([f"{self.module.model_name} after {len(self.log)} edits", *(checked or ["nothing promised"])])

    @property
    def failure(self) -> str | None:
        """How the promise is broken, as a sentence; None where it is kept or there is none."""
        if self.certificate is not None and not self.certificate.affine:
            return f"the result is not certified affine: {self.certificate.reason}"
        if self.comparison is not None and not self.comparison.same:
            return (
                f"the result computes another function: outputs differ by {self.comparison.difference:.1e}"
                f" of the largest, more than {self.comparison.tolerance:.0e}"
            )
        return None


@torch_state(gradients=False)
def linearize(
    model: nn.Module | Rewritten,
    example: torch.Tensor | None = None,
    rules: Rules = "linearize",
    *,
    strict: bool = True,
    require_affine: bool = False,
) -> Linearized:
    """Trace `model`, apply `rules` and certify the result.

    `model` is a module, with an `example` `(batch, channels, height, width)` of which only shape and dtype matter, or a
    `Graph` or the result of `apply`, which need none. It is not changed. `strict` refuses rules that do not fire as
    often as they expect. A result that is not affine is returned with a certificate that names the offenders;
    `require_affine` refuses it.

    Raises TraceError, RuleError, RewriteError; InputError without an example or for something that is no network;
    CertificateError where `require_affine` is broken.
    """
    before = graph_of(model, example)
    planned = plan(before, rules)
    checked = apply_checked(planned, promise="affine", strict=strict)
    assert checked.certificate is not None, "an affine result was promised"
    if require_affine and checked.failure is not None:
        raise CertificateError(checked.failure, hint=checked.certificate.advice)
    return Linearized(
        module=checked.module, log=checked.log, certificate=checked.certificate, plan=planned, before=before
    )


@torch_state(gradients=False)
def apply_checked(planned: Plan, *, promise: Promise | None = None, strict: bool = True) -> CheckedRewrite:
    """Apply a plan and check the promise of its ruleset, or the argument `promise` if it is given.

    `affine` is certified; `same function` is compared on random images. A broken promise is no error here: see
    `failure`.

    Raises as `surgery.apply` does.
    """
    rewrite = apply(planned, strict=strict)
    promise = promise or planned.rules.promise
    return CheckedRewrite(
        module=rewrite.module,
        log=rewrite.log,
        certificate=certificate_of(rewrite.module) if promise == "affine" else None,
        comparison=compare(planned.graph, rewrite.module) if promise == "same function" else None,
    )

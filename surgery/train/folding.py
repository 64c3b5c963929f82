"""Batch norm multiplied into the layers before it, again for every batch, while the network itself is trained.

An attack runs the network a dozen times between two updates, in evaluation mode, where batch norm is a fixed map. The
graph is rewritten once, by the ruleset `fold-batch-norm`; from then on only the folded numbers are computed anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from surgery.errors import SurgeryError
from surgery.graph import Graph, operation_name, trace
from surgery.graph.graph import attribute
from surgery.rewrite import Rewrite, apply, plan
from surgery.train.foreach import copy_all


class FoldingError(SurgeryError):
    """A network has no batch norm that can be folded, or the folded numbers are not those of the ruleset."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """One batch norm: the tensors of the network that it is computed from, and where it goes in the graph.

    All but `weight` are `(channels,)`; those that the network does not have are constant. `across` is the shape in
    which a vector of channels multiplies the weight. `into` names the folded weight and bias.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    eps: Tensor
    gain: Tensor
    shift: Tensor
    across: tuple[int, ...]
    into: tuple[str, str]


class FoldedNetwork(nn.Module):
    """What `network` computes in evaluation mode, with batch norm folded, as of the last `refresh`.

    Weights that were folded are held in `dtype`; run it under autocast where that is not their own.

    Raises FoldingError, or TraceError, where the network cannot be folded.
    """

    def __init__(self, network: nn.Module, example: Tensor, *, dtype: torch.dtype, channels_last: bool) -> None:
        super().__init__()
        sources = _named_tensors(network)
        rewrite = apply(plan(trace(network, example), "fold-batch-norm"))
        self._folds = _folds(rewrite, sources)
        self._check(rewrite.module)
        self.network = rewrite.module.requires_grad_(False)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        folded = [name for which in (0, 1) for name in (fold.into[which] for fold in self._folds)]
        self._into = [attribute(self.network, name) for name in folded]
        for parameter in self._into:
            parameter.data = parameter.data.to(dtype)
        others = [name for name in self.network.tensors() if name not in folded and name in sources]
        self._others = [(attribute(self.network, name), sources[name]) for name in others]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute the folded numbers from the network's as they are now."""
        weights, biases = self._folded()
        copy_all(self._into, [*weights, *biases])
        copy_all([into for into, _ in self._others], [source for _, source in self._others])

    def _folded(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """w' = w s and b' = (b - m) s + t with s = g / sqrt(v + eps), the vectors of all layers in one."""
        folds = self._folds
        spread = torch.cat([fold.variance for fold in folds]) + torch.cat([fold.eps for fold in folds])
        scale = spread.rsqrt() * torch.cat([fold.gain for fold in folds])
        offset = torch.cat([fold.bias for fold in folds]) - torch.cat([fold.mean for fold in folds])
        bias = offset * scale + torch.cat([fold.shift for fold in folds])
        sizes = [len(fold.mean) for fold in folds]
        weights = [fold.weight * part.view(fold.across) for fold, part in zip(folds, scale.split(sizes), strict=True)]
        return weights, bias.split(sizes)

    @torch.no_grad()
    def _check(self, graph: Graph) -> None:
        """The ruleset and this module have to agree on what folding is, up to rounding."""
        for fold, *found in zip(self._folds, *self._folded(), strict=True):
            for name, values in zip(fold.into, found, strict=True):
                wanted = attribute(graph, name)
                if wanted.shape != values.shape or not torch.allclose(values, wanted, rtol=1e-3, atol=1e-5):
                    raise FoldingError(f"{name} is not what the ruleset folds")


def _folds(rewrite: Rewrite, sources: Mapping[str, Tensor]) -> list[_Fold]:
    before = {node.name: node for node in rewrite.before.graph.nodes}
    after = {node.name: node for node in rewrite.module.graph.nodes}
    found = [_fold(before.get(edit.at), after.get(edit.into), sources) for edit in rewrite.log]
    if not found:
        raise FoldingError("no batch norm follows a convolution or linear layer")
    return found


def _fold(norm: fx.Node | None, made: fx.Node | None, sources: Mapping[str, Tensor]) -> _Fold:
    layer = norm.args[0] if norm is not None else None
    if norm is None or made is None or not isinstance(layer, fx.Node) or operation_name(layer) == "batch_norm":
        raise FoldingError("batch norms follow each other, of which one would have to be folded twice")
    weight, bias = (_source(node, sources) for node in layer.args[1:3])
    mean, variance, gain, shift = (_source(node, sources) for node in norm.args[1:5])
    into_weight, into_bias = made.args[1:3]
    eps = norm.kwargs["eps"]
    if weight is None or mean is None or variance is None or not isinstance(eps, float):
        raise FoldingError("a batch norm is folded into something that is no parameter")
    zero, one = torch.zeros_like(mean), torch.ones_like(mean)
    return _Fold(
        weight=weight,
        bias=zero if bias is None else bias,
        mean=mean,
        variance=variance,
        eps=torch.full_like(mean, eps),
        gain=one if gain is None else gain,
        shift=zero if shift is None else shift,
        across=_across(layer, weight.dim()),
        into=(_name(into_weight), _name(into_bias)),
    )


def _across(layer: fx.Node, dimensions: int) -> tuple[int, ...]:
    """Outputs are the first dimension of a weight, of a transposed convolution's the second."""
    if not operation_name(layer).startswith("conv_transpose"):
        return (-1, *(1,) * (dimensions - 1))
    if layer.kwargs.get("groups", 1) != 1:
        raise FoldingError("a transposed convolution in groups has its outputs in two dimensions")
    return (1, -1, *(1,) * (dimensions - 2))


def _name(node: object) -> str:
    assert isinstance(node, fx.Node), "the ruleset writes parameters"
    return str(node.target)


def _source(node: object, sources: Mapping[str, Tensor]) -> Tensor | None:
    """The tensor of the network that a node reads; None for an operand that is absent."""
    if not isinstance(node, fx.Node):
        return None
    if str(node.target) not in sources:
        raise FoldingError(f"the network has no tensor {node.target}")
    return sources[str(node.target)].detach()


def _named_tensors(network: nn.Module) -> Mapping[str, Tensor]:
    if isinstance(network, Graph):
        return network.tensors()
    named: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    return named | dict(network.named_buffers(remove_duplicate=False))

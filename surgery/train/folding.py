"""Batch norm multiplied into the layers before it, for attacks on a network whose weights change with every batch.

An attack runs the network a dozen times between two updates, in evaluation mode, where batch norm is an affine map of
each channel. The graph is rewritten once, by the ruleset `fold-batch-norm`; afterwards only the folded numbers are
recomputed, which costs less than a single forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from surgery.errors import SurgeryError
from surgery.graph import Graph, operation_name, trace
from surgery.rewrite import apply, plan


class FoldingError(SurgeryError):
    """A network has no batch norm that can be folded, or the folded numbers differ from those of the ruleset."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """One batch norm: the tensors of the network that it is computed from, and its place in the graph.

    All but `weight` are `(channels,)`; those that the network does not have are constants. `across` is the shape in
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

    Folded weights are stored in `dtype`; run the network under autocast where that differs from the dtype of the rest.

    Raises FoldingError, or TraceError, where the network cannot be folded.
    """

    def __init__(self, network: nn.Module, example: Tensor, *, dtype: torch.dtype, channels_last: bool) -> None:
        super().__init__()
        if isinstance(network, Graph):
            sources = network.tensors()
        else:
            # Under every name of a shared tensor: the graph may use any of them.
            sources = dict(network.named_parameters(remove_duplicate=False))
            sources |= dict(network.named_buffers(remove_duplicate=False))
        rewrite = apply(plan(trace(network, example), "fold-batch-norm"))
        before = {node.name: node for node in rewrite.before.graph.nodes}
        after = {node.name: node for node in rewrite.module.graph.nodes}
        self._folds = [_fold(before.get(edit.at), after.get(edit.into), sources) for edit in rewrite.log]
        if not self._folds:
            raise FoldingError("no batch norm follows a convolution or linear layer")
        # The ruleset says what folding is, `_folded` computes it in every step: the two are compared once, up to
        # rounding, before anything is trained.
        made = rewrite.module.tensors()
        with torch.no_grad():
            for fold, *found in zip(self._folds, *self._folded(), strict=True):
                for name, values in zip(fold.into, found, strict=True):
                    wanted = made[name]
                    if wanted.shape != values.shape or not torch.allclose(values, wanted, rtol=1e-3, atol=1e-5):
                        raise FoldingError(f"{name} is not what the ruleset folds")
        self.network = rewrite.module.requires_grad_(False)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        tensors = self.network.tensors()
        folded = [name for which in (0, 1) for name in (fold.into[which] for fold in self._folds)]
        self._into = [tensors[name] for name in folded]
        for parameter in self._into:
            # Stored as autocast would convert them, which otherwise happens in each of the dozen forward passes.
            parameter.data = parameter.data.to(dtype)
        others = [name for name in tensors if name not in folded and name in sources]
        self._others = [tensors[name] for name in others]
        self._other_sources = [sources[name] for name in others]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    @torch.no_grad()
    def refresh(self) -> None:
        """Recompute the folded numbers from the present ones of the network."""
        weights, biases = self._folded()
        # One call for all layers: a network has many small tensors, and each kernel takes time to launch.
        torch._foreach_copy_(self._into, [*weights, *biases])  # pyright: ignore[reportPrivateImportUsage]
        if self._others:
            torch._foreach_copy_(self._others, self._other_sources)  # pyright: ignore[reportPrivateImportUsage]

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


def _fold(norm: fx.Node | None, made: fx.Node | None, sources: Mapping[str, Tensor]) -> _Fold:
    """The fold of batch norm `norm` into the layer before it, which the ruleset replaced by the layer `made`."""
    layer = norm.args[0] if norm is not None else None
    if norm is None or made is None or not isinstance(layer, fx.Node) or operation_name(layer) == "batch_norm":
        raise FoldingError("batch norms follow each other, of which one would have to be folded twice")
    weight, bias = (_source(node, sources) for node in layer.args[1:3])
    mean, variance, gain, shift = (_source(node, sources) for node in norm.args[1:5])
    into_weight, into_bias = made.args[1:3]
    assert isinstance(into_weight, fx.Node), "the ruleset writes parameters"
    assert isinstance(into_bias, fx.Node), "the ruleset writes parameters"
    eps = norm.kwargs["eps"]
    if weight is None or mean is None or variance is None or not isinstance(eps, float):
        raise FoldingError("a batch norm is folded into something that is no parameter")
    # The outputs are the first dimension of a weight, and the second one of a transposed convolution's.
    across = (-1, *(1,) * (weight.dim() - 1))
    if operation_name(layer).startswith("conv_transpose"):
        if layer.kwargs.get("groups", 1) != 1:
            raise FoldingError("a transposed convolution in groups has its outputs in two dimensions")
        across = (1, -1, *(1,) * (weight.dim() - 2))
    zero, one = torch.zeros_like(mean), torch.ones_like(mean)
    return _Fold(
        weight=weight,
        bias=zero if bias is None else bias,
        mean=mean,
        variance=variance,
        eps=torch.full_like(mean, eps),
        gain=one if gain is None else gain,
        shift=zero if shift is None else shift,
        across=across,
        into=(str(into_weight.target), str(into_bias.target)),
    )


def _source(node: object, sources: Mapping[str, Tensor]) -> Tensor | None:
    """The tensor of the network that a node reads; None for an absent operand."""
    if not isinstance(node, fx.Node):
        return None
    if str(node.target) not in sources:
        raise FoldingError(f"the network has no tensor {node.target}")
    return sources[str(node.target)].detach()

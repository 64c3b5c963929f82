"""Agreement of the linear sub-network with the network that it comes from, on given images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.torch_state import torch_state

_ROUNDING = 1e-13
"""A logit that varies less than this, relative to the largest, is constant."""


class Affine(Protocol):
    """An object with W and b, such as a `LinearMap`."""

    @property
    def matrix(self) -> Tensor:
        """`(D, K)`: one column for each class."""
        ...

    @property
    def bias(self) -> Tensor:
        """`(K,)`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Agreement:
    """The comparison of two networks on the same images.

    `images`: how many. `equal`: for how many both predict the same class. `class_correlations`: `(K,)`, float64, for
    each class the Pearson correlation of the two networks' logits over the images, NaN where one of them is constant.
    `correlation`: the same over all classes together, each class about its own mean; NaN if all logits are constant.

    Logits are first centered over the classes of each image, because a common offset changes no prediction.
    """

    images: int
    equal: int
    correlation: float
    class_correlations: Tensor

    def __repr__(self) -> str:
        low, high = (100 * end for end in self.interval)
        share = f"the same class for {100 * self.share:.1f} % ({low:.1f} to {high:.1f})"
        return f"Agreement on {self.images} images: {share}, correlation of logits {self.correlation:.3f}"

    @property
    def share(self) -> float:
        """Share of images for which both networks predict the same class."""
        return self.equal / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of `share`."""
        return wilson_interval(self.equal, self.images)


@torch_state(gradients=False)
def agreement(
    network: Callable[[Tensor], Tensor],
    linear: Callable[[Tensor], Tensor] | Affine,
    batches: Iterable[Tensor | Sequence[Tensor]],
) -> Agreement:
    """Compare the logits `(batch, K)` of two networks on batches of images, or of `(images, labels)`.

    `linear` is the sub-network or its `LinearMap`: W^T x + b. Only sums are kept between batches. Networks run without
    gradients.

    Raises InputError where a network is in training mode, logits do not fit or are not finite, or there is no image.
    """
    sides = (("network", network), ("linear sub-network", _function(linear)))
    for name, function in sides:
        _check_mode(name, function)
    equal, moments = 0, None
    for batch in batches:
        images = batch if isinstance(batch, Tensor) else batch[0]
        if not len(images):
            continue
        first, second = (_logits(name, function, images) for name, function in sides)
        _check_pair(first, second)
        equal += int((first.argmax(dim=1) == second.argmax(dim=1)).sum())
        added = _Moments.of(_centered(first), _centered(second))
        moments = added if moments is None else moments.merge(added)
    if moments is None:
        raise InputError("expected at least one image to compare the networks on; the batches hold none")
    return _conclude(equal, moments)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (JASA 1927): within [0, 1], and accurate for shares near 0 and 1."""
    if not 0 <= successes <= trials or trials == 0:
        raise InputError(f"{successes} of {trials} is not a share")
    from scipy.stats import binomtest  # its import takes longer than everything else here

    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moments:
    """Means and centered second moments of two networks' logits, `(K,)` each, merged pairwise without cancellation
    (Chan, Golub, LeVeque 1979).
    """

    count: int
    means: tuple[Tensor, Tensor]
    squares: tuple[Tensor, Tensor]
    product: Tensor

    @staticmethod
    def of(first: Tensor, second: Tensor) -> _Moments:
        means = first.mean(dim=0), second.mean(dim=0)
        x, y = first - means[0], second - means[1]
        return _Moments(
            count=len(first),
            means=means,
            squares=(x.square().sum(dim=0), y.square().sum(dim=0)),
            product=(x * y).sum(0),
        )

    def merge(self, other: _Moments) -> _Moments:
        count = self.count + other.count
        weight = self.count * other.count / count
        x, y = (b - a for a, b in zip(self.means, other.means, strict=True))
        return _Moments(
            count=count,
            means=(self.means[0] + x * (other.count / count), self.means[1] + y * (other.count / count)),
            squares=(
                self.squares[0] + other.squares[0] + x.square() * weight,
                self.squares[1] + other.squares[1] + y.square() * weight,
            ),
            product=self.product + other.product + x * y * weight,
        )


def _conclude(equal: int, moments: _Moments) -> Agreement:
    x, y = (_varying(square, mean, moments.count) for square, mean in zip(moments.squares, moments.means, strict=True))
    scale = float(x.nansum().sqrt() * y.nansum().sqrt())
    return Agreement(
        images=moments.count,
        equal=equal,
        correlation=max(-1.0, min(1.0, float(moments.product.sum()) / scale)) if scale else math.nan,
        class_correlations=(moments.product / (x.sqrt() * y.sqrt())).clamp(-1.0, 1.0).cpu(),
    )


def _varying(squares: Tensor, means: Tensor, count: int) -> Tensor:
    """The second moments, NaN for logits whose variation is rounding."""
    floor = count * (_ROUNDING * float(means.abs().max())) ** 2
    return squares.where(squares > floor, torch.nan)


def _centered(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=1, keepdim=True)


def _function(linear: Callable[[Tensor], Tensor] | Affine) -> Callable[[Tensor], Tensor]:
    """`linear` as a function of images; a module is returned unchanged, whatever the names of its attributes."""
    if isinstance(linear, nn.Module) or not hasattr(linear, "matrix"):
        return cast(Callable[[Tensor], Tensor], linear)
    matrix, bias = cast(Affine, linear).matrix, cast(Affine, linear).bias
    return lambda images: images.flatten(1).to(matrix) @ matrix + bias.to(matrix)


def _logits(name: str, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    logits = function(images)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"logits of the {name} are (batch, classes); got {shape} for {len(images)} images")
    if not bool(logits.isfinite().all()):
        raise InputError(
            f"the {name} gives logits that are not finite",
            hint="run it in float64: with batch norm dropped, scales can be beyond float32",
        )
    return logits.double()


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise InputError(
            f"the network has {first.shape[1]} classes and the linear sub-network {second.shape[1]}; they are not two "
            "views of one task"
        )
    if first.shape[1] < 2:
        raise InputError("predictions need at least two classes; both networks have one output")


def _check_mode(name: str, function: Callable[[Tensor], Tensor]) -> None:
    if isinstance(function, nn.Module) and any(module.training for module in function.modules()):
        raise InputError(
            f"the {name} is in training mode, where its logits depend on the rest of the batch or on chance",
            hint="call .eval() on it first",
        )

"""Relations between the weight vectors of the classes: the correlation matrix C and the spectrum of W.

Both come from the Gram matrix of W, summed over slices of its rows in float64: for 150,528 input values and 1,000
classes that is one pass over W and a matrix of 1,000 x 1,000, and W is never copied whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgery.errors import InputError
from surgery.torch_state import torch_state

_SLICE = 1 << 22
"""Numbers of W that are in float64 at one time: 32 MiB."""

_ROUNDING = 1e-13
"""A centered weight vector this small relative to the largest plain one is rounding of the mean over classes."""


class HasMatrix(Protocol):
    """An object with W, such as a `LinearMap`."""

    @property
    def matrix(self) -> Tensor:
        """`(D, K)`: one column for each class."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Spectrum:
    """The singular values of W, and two numbers for how many of them matter.

    `singular_values`: `(min(D, K),)`, largest first, float64; taken from the Gram matrix, so those below about 1e-8 of
    the largest are rounding. `effective_rank`: exp of the entropy of the singular values divided by their sum (Roy and
    Vetterli, "The effective rank", EUSIPCO 2007). `stable_rank`: the sum of their squares over the largest square
    (Rudelson and Vershynin, "Sampling from large matrices", 2007). Both ranks are between 1 and the rank of W.
    """

    singular_values: Tensor
    effective_rank: float
    stable_rank: float

    def __repr__(self) -> str:
        count, largest, least = (
            len(self.singular_values),
            float(self.singular_values[0]),
            float(self.singular_values[-1]),
        )
        ranks = f"effective rank {self.effective_rank:.3g}, stable rank {self.stable_rank:.3g}"
        return f"Spectrum of {count} singular values from {largest:.3g} to {least:.3g}, {ranks}"


@torch_state(gradients=False)
def correlate(
    map: HasMatrix | Tensor | NDArray[Any], *, center: bool = False, undefined: Literal["refuse", "nan"] = "refuse"
) -> Tensor:
    """C_ij = <W_i, W_j> / (|W_i| |W_j|) for the columns W_i of `map`, a `LinearMap` or a tensor `(D, K)` (eq. 7).

    `center` subtracts the mean over classes from every W_i first. Softmax does not change when one vector is added to
    all W_i, so the plain C depends on an offset that changes no prediction; the centered C does not.

    Returns `(K, K)` in float64 on the device of W: exactly symmetric, ones on the diagonal, all within [-1, 1].
    `undefined`: a weight vector that is zero (or the mean, if centered) has no direction; it is refused, or its row and
    column are NaN, diagonal included.

    Raises InputError for such a vector, unless `undefined="nan"`, and for one that is not finite; it names the class.
    """
    matrix = _matrix(map)
    gram = _gram(matrix, center=center)
    norms = gram.diagonal().sqrt()
    directionless = norms <= (_ROUNDING if center else 0.0)
    zero = directionless.nonzero()
    if zero.numel() and undefined == "refuse":
        message = f"the weight vector of class {int(zero[0])} is " + ("the mean of all classes'" if center else "zero")
        raise InputError(f"{message}, so it has no direction to correlate (W has shape {tuple(matrix.shape)})")
    correlation = (gram / torch.outer(norms, norms)).clamp_(-1.0, 1.0).fill_diagonal_(1.0)
    correlation[directionless] = torch.nan
    correlation[:, directionless] = torch.nan
    return correlation


@torch_state(gradients=False)
def spectrum(map: HasMatrix | Tensor | NDArray[Any], *, center: bool = False) -> Spectrum:
    """The singular values of W `(D, K)`, of a `LinearMap` or a tensor; `center` as for `correlate`.

    Raises InputError where W is zero or not finite.
    """
    matrix = _matrix(map)
    scale = _scale(matrix)
    # W^T W and W W^T have the same eigenvalues other than zero, and finding them costs the cube of the size: with the
    # larger one, 16,384 classes of 3,072 input values took three quarters of an hour.
    wide = matrix.shape[1] > matrix.shape[0]
    gram = _outer_gram(matrix, center=center) if wide else _gram(matrix, center=center)
    eigenvalues = torch.linalg.eigvalsh(gram).flip(0)
    values = eigenvalues.clamp_min(0.0).sqrt()
    largest = float(values[0])
    if largest <= (_ROUNDING if center else 0.0):
        raise InputError("W is zero" + (" once the mean over classes is subtracted" if center else ""))
    shares = values / values.sum()
    return Spectrum(
        singular_values=values * scale,
        effective_rank=float(torch.special.entr(shares).sum().exp()),
        stable_rank=float((values / largest).square().sum()),
    )


def _matrix(map: HasMatrix | Tensor | NDArray[Any]) -> Tensor:
    given = torch.as_tensor(map) if isinstance(map, np.ndarray) else getattr(map, "matrix", map)
    if not isinstance(given, Tensor):
        raise InputError(
            f"expected W as a LinearMap or a tensor (input values, classes), got {type(map).__name__}",
            hint="surgery.extract computes the LinearMap of a network",
        )
    matrix = given.detach()
    if matrix.dim() != 2 or not matrix.numel() or not matrix.is_floating_point():
        raise InputError(
            f"W is a floating-point matrix (input values, classes); got shape {tuple(matrix.shape)}, {matrix.dtype}"
        )
    return matrix


def _scale(matrix: Tensor) -> float:
    """The largest absolute value of W; squares of 1e200 would overflow, and squares of 1e-200 vanish.

    Raises InputError, naming the class, where W is not finite.
    """
    low, high = matrix.aminmax(dim=0)  # abs() would copy W
    largest = torch.maximum(-low, high)
    if not bool(largest.isfinite().all()):
        broken = int((~largest.isfinite()).nonzero()[0])
        raise InputError(
            f"the weight vector of class {broken} is not finite",
            hint="extract W in float64: the scales of the network's layers may be beyond float32",
        )
    return float(largest.max()) or 1.0


def _gram(matrix: Tensor, *, center: bool) -> Tensor:
    """W^T W `(K, K)` of W divided by its scale, in float64.

    The mean over classes is subtracted from W and not from its Gram matrix, where a large shared vector would cancel
    the digits of the difference.
    """
    scale, classes = _scale(matrix), matrix.shape[1]
    gram = torch.zeros((classes, classes), dtype=torch.float64, device=matrix.device)
    for rows in matrix.split(max(1, _SLICE // classes)):
        part = rows.double() / scale
        if center:
            part -= part.mean(dim=1, keepdim=True)
        gram.addmm_(part.T, part)
    return (gram + gram.T) / 2  # the product is symmetric only up to rounding


def _outer_gram(matrix: Tensor, *, center: bool) -> Tensor:
    """W W^T `(D, D)` of W divided by its scale, in float64, for more classes than input values."""
    scale, values = _scale(matrix), matrix.shape[0]
    mean = matrix.double().mean(dim=1, keepdim=True) / scale if center else 0.0
    gram = torch.zeros((values, values), dtype=torch.float64, device=matrix.device)
    for columns in matrix.split(max(1, _SLICE // values), dim=1):
        part = columns.double() / scale - mean
        gram.addmm_(part, part.T)
    return (gram + gram.T) / 2

"""Correlation matrices of users, checked and made exactly symmetric, and the distances made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from surgery.errors import InputError

TOLERANCE = 1e-5
"""How far from symmetry and from [-1, 1] rounding in float32 may bring a correlation."""

Matrix = NDArray[np.float64]


def correlations(C: ArrayLike | Tensor) -> Matrix:
    """`C` `(K, K)` as a new float64 array, symmetric, within [-1, 1], with ones on the diagonal.

    Raises InputError naming the entry that is wrong.
    """
    matrix = np.array(C.detach().cpu().double().numpy() if isinstance(C, Tensor) else C, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"a correlation matrix is (classes, classes); got shape {matrix.shape}")
    _refuse(~np.isfinite(matrix), matrix, "is not finite")
    _refuse(np.abs(matrix - matrix.T) > TOLERANCE, matrix, "differs from its mirror image")
    _refuse(np.abs(matrix) > 1 + TOLERANCE, matrix, "is outside [-1, 1]")
    off = np.abs(matrix.diagonal() - 1) > TOLERANCE
    _refuse(np.diag(off), matrix, "is not 1, the correlation of a class with itself")
    # Entries that rounding in float32 made unequal are averaged: no result depends on the triangle that is read.
    matrix = np.clip((matrix + matrix.T) / 2, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _refuse(wrong: NDArray[np.bool_], matrix: Matrix, why: str) -> None:
    if wrong.any():
        i, j = (int(index) for index in np.argwhere(wrong)[0])
        raise InputError(f"the correlation of classes {i} and {j}, {matrix[i, j]:.6g}, {why}")


def distances(C: Matrix, method: str) -> Matrix:
    """The distance of classes `(K, K)` that `method` works on, zero on the diagonal.

    1 - C; for Ward's method, which is about squared Euclidean distances, |u_i - u_j| = sqrt(2 (1 - C_ij)) of the unit
    vectors u_i = W_i / |W_i|.
    """
    dissimilarity = 1.0 - C
    return np.sqrt(2.0 * dissimilarity) if method == "ward" else dissimilarity

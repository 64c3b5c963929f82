"""Scores of a hierarchy: agreement with a reference, and the contrast of its blocks in a correlation matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from surgery.errors import InputError
from surgery.hierarchy.matrix import Matrix, correlations, distances
from surgery.hierarchy.partitions import adjusted_mutual_information, adjusted_rand_index
from surgery.hierarchy.permutation import p_value

PERMUTATIONS = 10_000
"""Relabelings drawn where there are more of them."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A hierarchy compared with a reference.

    `adjusted_rand_index`, `adjusted_mutual_information`: agreement of the two partitions; 1 if equal, about 0 by
    chance. `block_contrast`: mean of C within the reference's superclasses minus mean across them, diagonal left out,
    in [-2, 2]. `p_value`: share of random relabelings of the classes with at least that contrast, in (0, 1].
    `cophenetic_correlation`: how well the dendrogram's heights keep the distances, in [-1, 1]; None without a
    dendrogram, and where nothing varies.
    """

    adjusted_rand_index: float
    adjusted_mutual_information: float
    block_contrast: float
    p_value: float
    cophenetic_correlation: float | None


def score(
    C: ArrayLike | Tensor,
    *,
    found: Sequence[int],
    reference: Sequence[int],
    merges: Sequence[tuple[int, int, float, int]] | None,
    method: str,
    permutations: int,
    generator: torch.Generator | None,
) -> Scores:
    """Score the labels `found` and the matrix `C` `(K, K)` against the labels `reference`; see `Hierarchy.scores`."""
    if permutations < 1:
        raise InputError(f"a permutation test needs at least one permutation; got {permutations}")
    matrix = _of_size(C, len(reference))
    contrast = _contrast(matrix, reference)
    groups = tuple(tuple(np.flatnonzero(np.equal(reference, g)).tolist()) for g in sorted(set(reference)))
    return Scores(
        adjusted_rand_index=adjusted_rand_index(found, reference),
        adjusted_mutual_information=adjusted_mutual_information(found, reference),
        block_contrast=contrast,
        p_value=p_value(matrix, groups, permutations=permutations, generator=generator),
        cophenetic_correlation=None if merges is None else _cophenetic(distances(matrix, method), merges),
    )


def block_contrast(C: ArrayLike | Tensor, superclass: Sequence[int]) -> float:
    """Mean of `C` `(K, K)` within superclasses minus mean across them, diagonal left out, in [-2, 2].

    Classes whose row and column of `C` are NaN, diagonal included, are left out: their weight vectors are zero.

    Raises InputError where all classes are in one superclass, or each in its own: then one of the means is empty.
    """
    matrix = np.array(C.detach().cpu().double().numpy() if isinstance(C, Tensor) else C, dtype=np.float64)
    labels = np.asarray(superclass)
    if matrix.ndim == 2 and len(matrix) == len(labels):
        kept = ~(np.isnan(matrix).all(axis=0) & np.isnan(matrix).all(axis=1))
        matrix, labels = matrix[np.ix_(kept, kept)], labels[kept]
    return _contrast(_of_size(matrix, len(labels)), labels.tolist())


def _contrast(matrix: Matrix, superclass: Sequence[int]) -> float:
    labels = np.asarray(superclass)
    same = labels[:, None] == labels[None, :]
    pairs = ~np.eye(len(labels), dtype=bool)
    if same.all() or not (same & pairs).any():
        what = "all classes in one superclass" if same.all() else "every class in a superclass of its own"
        raise InputError(f"no contrast of blocks with {what}: expected a pair within and a pair across superclasses")
    return float(matrix[same & pairs].mean() - matrix[~same].mean())


def _of_size(C: ArrayLike | Tensor, classes: int) -> Matrix:
    matrix = correlations(C)
    if len(matrix) != classes:
        raise InputError(f"C has {len(matrix)} classes: expected {classes}, as in the hierarchy")
    return matrix


def _cophenetic(distance: Matrix, merges: Sequence[tuple[int, int, float, int]]) -> float | None:
    """The Pearson correlation of pairwise distances and the heights at which pairs merge."""
    members = {label: [label] for label in range(len(distance))}
    heights = np.zeros_like(distance)
    for number, (left, right, height, _) in enumerate(merges):
        # Each pair of classes is in two clusters until exactly one merge, whose height is theirs.
        heights[np.ix_(members[left], members[right])] = height
        members[len(distance) + number] = members.pop(left) + members.pop(right)
    upper = np.triu_indices(len(distance), k=1)
    x, y = (values - values.mean() for values in (distance[upper], np.maximum(heights, heights.T)[upper]))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return min(1.0, max(-1.0, float(x @ y) / scale)) if scale > 1e-12 else None

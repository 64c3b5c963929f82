"""Spectral clustering of classes (Ng, Jordan and Weiss 2001), deterministic and independent of the order of classes.

scikit-learn's starts k-means at random points, so that its labels depend on a seed and on the order of the classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surgery.hierarchy.matrix import Matrix

_ITERATIONS = 300
"""K-means converges in a handful; the bound only ends a cycle between ties."""


def affinity_spectrum(C: Matrix) -> tuple[NDArray[np.float64], Matrix]:
    """Eigenvalues, largest first, and eigenvectors `(K, K)` of D^-1/2 A D^-1/2 with A = (1 + C) / 2, D its row sums.

    The shift turns correlations into affinities without changing their order. An offset that all entries of C share
    ends up in the first eigenvector.
    """
    affinity = (1.0 + C) / 2.0
    roots = np.sqrt(affinity.sum(axis=1))  # at least 1, from the diagonal
    values, vectors = np.linalg.eigh(affinity / np.outer(roots, roots))
    return values[::-1], vectors[:, ::-1]  # eigh sorts them ascending


def spectral_labels(vectors: Matrix, count: int) -> NDArray[np.intp]:
    """Labels `(K,)` of `count` superclasses: k-means on the rows of the first `count` eigenvectors, made unit vectors.

    Only distances of rows are used, so signs and rotations of the eigenvectors do not matter.
    """
    rows = vectors[:, :count]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return _k_means(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0), count)


def _k_means(points: Matrix, count: int) -> NDArray[np.intp]:
    """Lloyd's algorithm from centers that are far apart, without random numbers."""
    centers = _spread(points, count)
    labels = np.full(len(points), -1, dtype=np.intp)
    for _ in range(_ITERATIONS):
        distance = _squared_distance(points, centers)
        nearest = distance.argmin(axis=1)
        _fill_empty(nearest, distance, count)
        if (nearest == labels).all():
            break
        labels = nearest
        member = np.zeros((count, len(points)))
        member[labels, np.arange(len(points))] = 1.0
        centers = member @ points / member.sum(axis=1, keepdims=True)
    return labels


def _spread(points: Matrix, count: int) -> Matrix:
    """Start at the point furthest from the mean, and add the point furthest from the centers so far until `count`."""
    nearest = _squared_distance(points, points.mean(axis=0, keepdims=True))[:, 0]
    chosen = [int(nearest.argmax())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, _squared_distance(points, points[chosen[-1:]])[:, 0])
        nearest[chosen] = -1.0  # below every distance: no point is chosen twice, even where points coincide
        chosen.append(int(nearest.argmax()))
    return points[chosen]


def _squared_distance(points: Matrix, centers: Matrix) -> Matrix:
    """`(K, centers)`, rounded: distances that are equal by symmetry stay equal, so that the first of them is taken."""
    squares = (points**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1)[None, :]
    return np.round(squares - 2.0 * points @ centers.T, 10)


def _fill_empty(labels: NDArray[np.intp], distance: Matrix, count: int) -> None:
    """Move to each empty superclass the class that is furthest from its own center and not alone in its superclass."""
    for number in np.setdiff1d(np.arange(count), labels):
        sizes = np.bincount(labels, minlength=count)
        own = np.where(sizes[labels] > 1, distance[np.arange(len(labels)), labels], -1.0)
        labels[int(own.argmax())] = number

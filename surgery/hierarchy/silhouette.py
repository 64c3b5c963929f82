"""The silhouette of a partition: how much nearer classes are to their own superclass than to the next one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surgery.hierarchy.matrix import Matrix


def silhouette(distance: Matrix, labels: NDArray[np.intp]) -> float:
    """The mean of (b - a) / max(a, b) over all classes, in [-1, 1] (Rousseeuw 1987).

    a is a class's mean distance to the others of its superclass, b that to the nearest other superclass; a class alone
    in its superclass counts 0. `distance`: `(K, K)`; `labels`: `(K,)`, 0 to G - 1, at least two of them.
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    sums = np.add.reduceat(distance[order], np.cumsum(sizes) - sizes, axis=0)  # (G, K); distances are symmetric
    classes = np.arange(len(labels))
    own = sizes[labels]
    within = sums[labels, classes] / np.maximum(own - 1, 1)
    means = sums / sizes[:, None]
    means[labels, classes] = np.inf
    nearest = means.min(axis=0)
    larger = np.maximum(within, nearest)
    widths = np.divide(nearest - within, larger, out=np.zeros_like(within), where=(own > 1) & (larger > 0))
    return float(widths.mean())

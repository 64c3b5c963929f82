"""`cluster`: from the correlation matrix of classes to superclasses (Bai et al. 2021, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from surgery.errors import InputError, suggest
from surgery.hierarchy.hierarchy import Hierarchy, Merge
from surgery.hierarchy.matrix import Matrix, correlations, distances
from surgery.hierarchy.spectral import affinity_spectrum, spectral_labels

Method = Literal["average", "complete", "single", "ward", "spectral"]
METHODS: tuple[Method, ...] = get_args(Method)

Choice = Literal["gap", "silhouette"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


def cluster(
    C: ArrayLike | Tensor,
    *,
    superclasses: int | Choice = 2,
    method: Method = "average",
    class_names: Sequence[str] | None = None,
) -> Hierarchy:
    """Group the classes of the correlation matrix `C` `(K, K)` into superclasses.

    `average`, `complete`, `single`: linkage on the distance 1 - C; `ward`: on sqrt(2 (1 - C)), the Euclidean distance
    of unit weight vectors; `spectral`: k-means in the eigenvectors of the affinity (1 + C) / 2.

    `superclasses`: their number, 1 to K; or a choice from 2 to K / 2, so that a superclass has two classes on average:
    `gap` takes the number at which the next merge (or eigenvalue, if spectral) is furthest from the one before;
    `silhouette` takes the number with the largest mean silhouette. Of equals the smallest number is taken. Both always
    find superclasses, even in noise: `Hierarchy.scores` tests them against a reference. Spectral clustering is computed
    separately for each number, so that its silhouettes take minutes for 1,000 classes, where those of a linkage take
    seconds.

    The result does not depend on the order of the classes, except where classes are exactly equally far from each
    other.

    Raises InputError for a matrix that is not a correlation matrix, and for unknown methods or numbers.
    """
    matrix = correlations(C)
    _check_options(superclasses, method, len(matrix))
    if class_names is not None and len(class_names) != len(matrix):
        raise InputError(f"C has {len(matrix)} classes: expected as many class names, got {len(class_names)}")
    levels = _spectral_levels(matrix) if method == "spectral" else _linkage_levels(matrix, method)
    number = superclasses if isinstance(superclasses, int) else _choose(superclasses, distances(matrix, method), levels)
    return Hierarchy.of_labels(
        levels.cut(number).tolist(), class_names=class_names, merges=levels.merges, method=method
    )


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """The clusterings of one method, by number of superclasses.

    `cut`: to a label for each class `(K,)`. `gap`: to the distance from the next larger number, in heights or
    eigenvalues. `merges`: the dendrogram, None where the method makes none.
    """

    cut: Callable[[int], NDArray[np.intp]]
    gap: Callable[[int], float]
    merges: tuple[Merge, ...] | None


def _linkage_levels(matrix: Matrix, method: str) -> _Levels:
    from scipy.cluster.hierarchy import linkage  # the import takes a third of a second, and only this function needs it
    from scipy.spatial.distance import squareform

    rows = linkage(squareform(distances(matrix, method), checks=False), method=method)
    merges = tuple((int(left), int(right), float(height), int(size)) for left, right, height, size in rows)
    classes = len(matrix)

    def gap(count: int) -> float:
        return merges[classes - count][2] - merges[classes - count - 1][2]

    return _Levels(cut=lambda count: cut_merges(merges, count), gap=gap, merges=merges)


def _spectral_levels(matrix: Matrix) -> _Levels:
    values, vectors = affinity_spectrum(matrix)
    return _Levels(
        cut=lambda count: spectral_labels(vectors, count),
        gap=lambda count: float(values[count - 1] - values[count]),
        merges=None,
    )


def cut_merges(merges: Sequence[Merge], count: int) -> NDArray[np.intp]:
    """Labels `(K,)` of the `count` clusters that remain without the last `count - 1` merges.

    Cutting by number instead of height gives exactly `count` clusters, even where several merges are equally high.
    """
    classes = len(merges) + 1
    members = {label: [label] for label in range(classes)}
    for number, (left, right, _, _) in enumerate(merges[: classes - count]):
        # As in scipy, merge `number` makes the cluster K + `number`.
        members[classes + number] = members.pop(left) + members.pop(right)
    labels = np.empty(classes, dtype=np.intp)
    for number, group in enumerate(members.values()):
        labels[group] = number
    return labels


def _choose(choice: Choice, distance: Matrix, levels: _Levels) -> int:
    candidates = range(2, max(2, len(distance) // 2) + 1)
    if len(candidates) == 1:
        return candidates[0]
    if choice == "gap":
        quality = [levels.gap(count) for count in candidates]
    else:
        quality = [silhouette(distance, levels.cut(count)) for count in candidates]
    # Rounded, because equal qualities differ in their last bits; argmax takes the first, which is the smallest number.
    return candidates[int(np.argmax(np.round(quality, 12)))]


def silhouette(distance: Matrix, labels: NDArray[np.intp]) -> float:
    """The mean of (b - a) / max(a, b) over all classes, in [-1, 1] (Rousseeuw 1987).

    a is a class's mean distance to the others of its superclass, b that to the nearest other superclass; a class alone
    in its superclass counts 0. `distance`: `(K, K)`; `labels`: `(K,)`, 0 to G - 1, at least two of them.
    """
    # One sum over blocks of sorted rows, no loop over superclasses: this is computed for K / 2 numbers of them.
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


def _check_options(superclasses: int | str, method: str, classes: int) -> None:
    if method not in METHODS:
        raise InputError(
            f"unknown method {method!r}; there are {', '.join(METHODS)}", hint=suggest(str(method), METHODS)
        )
    if classes < 2:
        raise InputError("clustering needs at least two classes; C is (1, 1)")
    if isinstance(superclasses, str):
        if superclasses not in CHOICES:
            raise InputError(
                f"superclasses is a number, {' or '.join(map(repr, CHOICES))}; got {superclasses!r}",
                hint=suggest(superclasses, CHOICES),
            )
    elif isinstance(superclasses, bool) or not isinstance(superclasses, int):
        raise InputError(f"superclasses is a number, {' or '.join(map(repr, CHOICES))}; got {superclasses!r}")
    elif not 1 <= superclasses <= classes:
        raise InputError(f"{classes} classes make 1 to {classes} superclasses, not {superclasses}")

"""`cluster`: from the correlations of classes to superclasses (Bai et al. 2021, section 4)."""

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
from surgery.hierarchy.silhouette import silhouette
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

    `superclasses`: how many, 1 to K; or chosen from 2 to K / 2, so that a superclass has two classes on average: `gap`
    takes the number at which the next merge (or eigenvalue, if spectral) is furthest from the one before; `silhouette`
    that with the largest mean silhouette. Of equals the fewest. Both always find some: whether there is anything to
    find is what `Hierarchy.scores` says. Spectral clustering starts anew for each number, so that its silhouettes take
    minutes for 1,000 classes, where those of a linkage take seconds.

    The result does not depend on the order of the classes, save where classes are exactly equally far from each other.

    Raises InputError for a matrix that is no correlation matrix, and for unknown methods or numbers.
    """
    matrix = correlations(C)
    _check_options(superclasses, method, len(matrix))
    if class_names is not None and len(class_names) != len(matrix):
        raise InputError(f"C is of {len(matrix)} classes, but {len(class_names)} class names came")
    levels = _spectral_levels(matrix) if method == "spectral" else _linkage_levels(matrix, method)
    number = superclasses if isinstance(superclasses, int) else _choose(superclasses, distances(matrix, method), levels)
    return Hierarchy.of_labels(
        levels.cut(number).tolist(), class_names=class_names, merges=levels.merges, method=method
    )


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """What a method offers for every number of superclasses: a label for each class `(K,)`, and how clear the gap is
    to the next number; and the dendrogram, if it makes one.
    """

    cut: Callable[[int], NDArray[np.intp]]
    gap: Callable[[int], float]
    merges: tuple[Merge, ...] | None


def _linkage_levels(matrix: Matrix, method: str) -> _Levels:
    from scipy.cluster.hierarchy import linkage  # a third of a second that only this needs
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
    """Labels `(K,)` of the `count` clusters that are left when the last `count - 1` merges are not made.

    Cutting by number and not by height gives exactly `count` where several merges are equally high.
    """
    classes = len(merges) + 1
    members = {label: [label] for label in range(classes)}
    for number, (left, right, _, _) in enumerate(merges[: classes - count]):
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
    return candidates[int(np.argmax(np.round(quality, 12)))]  # rounded, so that of equals the first is taken


def _check_options(superclasses: int | str, method: str, classes: int) -> None:
    if method not in METHODS:
        raise InputError(f"no method {method!r}; there are {', '.join(METHODS)}", hint=suggest(str(method), METHODS))
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

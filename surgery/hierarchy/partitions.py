"""Agreement of two partitions of the same classes, corrected for chance: 1 for equal ones, 0 on average by chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from surgery.errors import InputError


def adjusted_rand_index(first: Sequence[int], second: Sequence[int]) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985), in [-0.5, 1]: agreement on pairs of classes.

    `first` and `second` are a label for each class. It is 1 where both have only single classes, or one superclass.
    """
    table = _contingency(first, second)
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    total = len(first) * (len(first) - 1) / 2
    if rows == columns and rows in (0, total):
        return 1.0
    expected = rows * columns / total
    return float((together - expected) / ((rows + columns) / 2 - expected))


def adjusted_mutual_information(first: Sequence[int], second: Sequence[int]) -> float:
    """The adjusted mutual information (Vinh, Epps and Bailey, JMLR 2010), at most 1, averaged arithmetically.

    (I - E[I]) / ((H_1 + H_2) / 2 - E[I]), with the expectation over all partitions that have the sizes of these two.
    """
    table = _contingency(first, second)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    entropies = _entropy(rows), _entropy(columns)
    information = entropies[0] + entropies[1] - _entropy(table.ravel())
    if np.count_nonzero(table) == len(rows) == len(columns):
        return 1.0
    # E[I] in nats for random partitions with these sizes; equal sizes contribute equally and are computed once.
    total = int(rows.sum())
    expected = sum(
        several * others * _expected_share(row, column, total)
        for row, several in Counter(rows.tolist()).items()
        for column, others in Counter(columns.tolist()).items()
    )
    bound = sum(entropies) / 2 - expected
    return float((information - expected) / bound) if bound > 1e-12 else 0.0


def _contingency(first: Sequence[int], second: Sequence[int]) -> NDArray[np.int64]:
    """The numbers of classes with label i in `first` and label j in `second`."""
    if len(first) != len(second) or not len(first):
        raise InputError(f"expected two partitions of the same classes, got {len(first)} and {len(second)} labels")
    rows, columns = (np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (first, second))
    table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def _pairs(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return counts * (counts - 1) / 2


def _entropy(counts: NDArray[np.int64]) -> float:
    """In nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _expected_share(row: int, column: int, total: int) -> float:
    """The contribution of one row and one column of these sizes to E[I]: their overlap is hypergeometric.

    Python's whole numbers keep the binomials of 1,000 classes exact, which overflow floats.
    """
    ways = math.comb(total, column)
    return sum(
        overlap
        / total
        * math.log(total * overlap / (row * column))
        * (math.comb(row, overlap) * math.comb(total - row, column - overlap) / ways)
        for overlap in range(max(1, row + column - total), min(row, column) + 1)
    )

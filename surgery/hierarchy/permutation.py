"""A permutation test: would classes grouped at random have blocks of C as strong as those of a hierarchy?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from surgery.hierarchy.matrix import Matrix

_CHUNK = 1 << 22
"""Numbers in a table of relabelings, 32 MiB; there are several such tables at a time."""

_WIDE = 1 / 16
"""Pairs of a superclass with at least this share of the classes are summed faster by a matrix product."""

Partition = tuple[tuple[int, ...], ...]


def p_value(C: Matrix, groups: Partition, *, permutations: int, generator: torch.Generator | None) -> float:
    """The share of relabelings whose blocks are at least as strong as those of `groups`, the observed one included.

    All relabelings have the same number of pairs within superclasses. So a relabeling's block contrast is at least as
    large exactly where its sum of C over these pairs is, and only sums are compared. All distinct partitions of the
    same sizes are tried where there are at most `permutations`; otherwise `permutations` relabelings are drawn, and
    p = (b + 1) / (m + 1) for b that reach the observed sum, which is never 0 (Phipson and Smyth 2010).
    """
    as_given = np.arange(len(C))[None, :]
    observed = float(_sums_within(C, groups, as_given)[0])
    # Sums in another order differ by rounding; without the margin, the observed partition could miss its own sum.
    floor = observed - 1e-12 * float(np.abs(C).sum())
    if count_partitions([len(group) for group in groups]) <= permutations:
        sums = [sum(C[i, j] for group in tried for i, j in combinations(group, 2)) for tried in all_partitions(groups)]
        return float(np.mean(np.array(sums) >= floor))
    generator = generator or torch.Generator().manual_seed(0)
    chunk = max(1, _CHUNK // len(C))
    reached = 0
    for start in range(0, permutations, chunk):
        # Sorting random numbers makes random orders of the classes; float64 makes ties between them improbable.
        rows = min(chunk, permutations - start)
        orders = torch.rand((rows, len(C)), generator=generator, dtype=torch.float64).argsort(dim=1).numpy()
        reached += int((_sums_within(C, groups, orders) >= floor).sum())
    return (reached + 1) / (permutations + 1)


def count_partitions(sizes: Sequence[int]) -> int:
    """The number of ways to split classes into superclasses of these sizes, whose order does not matter."""
    count = math.factorial(sum(sizes))
    for size in sizes:
        count //= math.factorial(size)
    for repeated in Counter(sizes).values():
        count //= math.factorial(repeated)
    return count


def all_partitions(groups: Partition) -> Iterator[Partition]:
    """Every partition into superclasses of the sizes of `groups`, once."""
    members = tuple(sorted(member for group in groups for member in group))
    return _split(members, Counter(len(group) for group in groups))


def _split(members: tuple[int, ...], sizes: Counter[int]) -> Iterator[Partition]:
    """The first class goes into a superclass of each size in turn, so that no partition is made twice."""
    if not members:
        yield ()
        return
    first, rest = members[0], members[1:]
    for size in sorted(sizes):
        left = sizes - Counter([size])
        for companions in combinations(rest, size - 1):
            remaining = tuple(member for member in rest if member not in companions)
            for others in _split(remaining, left):
                yield ((first, *companions), *others)


def _sums_within(C: Matrix, groups: Partition, orders: NDArray[np.intp]) -> NDArray[np.float64]:
    """The sum of `C` over pairs of classes in one superclass `(orders,)`, for each of `orders` `(orders, classes)`."""
    result = np.zeros(len(orders))
    for group in groups:
        members = orders[:, group]
        if len(group) > _WIDE * len(C):
            chosen = np.zeros(orders.shape)
            np.put_along_axis(chosen, members, 1.0, axis=1)
            result += (((chosen @ C) * chosen).sum(axis=1) - C.diagonal()[members].sum(axis=1)) / 2
        else:
            first, second = np.triu_indices(len(group), k=1)
            result += C[members[:, first], members[:, second]].sum(axis=1)
    return result

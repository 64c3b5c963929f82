"""Random integers that are the same on every machine and with every version of the libraries.

NumPy guarantees the stream of a bit generator (its enhancement proposal 19), but not the distributions made from it;
PyTorch guarantees neither. So everything here is integer arithmetic on raw 64-bit numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.random import PCG64, SeedSequence
from numpy.typing import NDArray

UNIT = 1 << 16
"""The standard deviation of `normal_integers`: of the sum of twelve numbers uniform on 0..65535 it is 65535.99999."""

_MEAN = 12 * (UNIT - 1) // 2
_LANES = 0x0000FFFF0000FFFF
_LOW = 0xFFFFFFFF


def stream(seed: int, purpose: str) -> PCG64:
    """The bit generator for a seed (0 or more) and a purpose; generators for different purposes are independent."""
    return PCG64(SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def normal_integers(source: PCG64, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Nearly standard normal numbers `shape`, as integers in units of 1 / 65536.

    Each is the sum of twelve uniform numbers of sixteen bits (Irwin and Hall), minus the mean of such sums: at most 6
    standard deviations, with a kurtosis of 2.9. Every row takes the same amount of the stream, so that the rows do not
    depend on the number of calls that draw them.
    """
    rows, columns = shape
    raw = source.random_raw((rows, 3, columns))
    # Two sums of six numbers in each word, 32 bits apart: a sum needs 19 bits, so that none carries into the other.
    pairs = ((raw & _LANES) + (raw >> 16 & _LANES)).sum(axis=1)
    return ((pairs & _LOW) + (pairs >> 32)).astype(np.int64) - _MEAN


def signs(source: PCG64, count: int) -> NDArray[np.int64]:
    """`count` numbers that are +1 or -1."""
    return 1 - 2 * (source.random_raw(count) >> 63).astype(np.int64)


def shuffle_keys(source: PCG64, count: int) -> NDArray[np.uint64]:
    """Random numbers to sort by: their order is a random permutation."""
    return source.random_raw(count)

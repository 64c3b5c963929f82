"""Smooth random fields that are orthogonal to each other, in fixed-point numbers that are the same on every machine.

A field is a sum of the basis functions of the discrete cosine transform, up to a cut-off, with random coefficients:
white noise through an ideal low-pass filter that does not wrap around at the edges. The basis functions are orthogonal
on the grid of pixels, so fields are orthogonal where their coefficients are.

Machines differ in the last bits of their cosines, and libraries in the order of their sums. Here cosines come from
decimal arithmetic, and coefficients from Python's floats, whose operations used here (+, *, /, the square root, `fsum`)
are all correctly rounded. Everything else is whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from operator import mul

import numpy as np
from numpy.random import PCG64
from numpy.typing import NDArray

from surgery.data.draws import UNIT, normal_integers
from surgery.errors import InputError

BITS = 20
"""Fields are whole numbers in units of 2^-20."""

_FINE = 24
_PI = Decimal("3.14159265358979323846264338327950288419716939937510")


def smooth_fields(
    source: PCG64, count: int, shape: tuple[int, int, int], *, cutoff: float, orthogonal: bool
) -> NDArray[np.int64]:
    """`count` random fields `(count, channels, size, size)` of mean 0 and variance 1, in units of 2^-20.

    `cutoff`: the highest frequency in cycles a pixel. Orthogonal up to rounding if `orthogonal`, in which case the
    first field is the first one drawn, and each of the others is drawn and then made orthogonal to the earlier ones.

    Raises InputError where fewer orthogonal fields exist.
    """
    channels, size, _ = shape
    modes = _modes(size, cutoff)
    room = channels * len(modes)
    if room < (count if orthogonal else 1):
        raise InputError(
            f"{count} orthogonal fields do not fit: images of {channels} x {size} x {size} have {room} of up to "
            f"{cutoff:g} cycles a pixel",
            hint="use a larger image_size or cutoff, or fewer classes",
        )
    drawn = [[value / UNIT for value in row] for row in normal_integers(source, (count, room)).tolist()]
    coefficients = _orthonormal(drawn) if orthogonal else [_unit(row) for row in drawn]
    down, across = zip(*modes, strict=True)
    spectrum = np.zeros((count, channels, max(down) + 1, max(down) + 1), dtype=np.int64)
    # The mean square of a field of c channels is the sum of squares of its coefficients, divided by c.
    scale = math.sqrt(channels) * 2**_FINE
    rounded = [[round(value * scale) for value in row] for row in coefficients]
    spectrum[:, :, down, across] = np.array(rounded).reshape(count, channels, len(modes))
    return _synthesize(spectrum, size)


def _modes(size: int, cutoff: float) -> list[tuple[int, int]]:
    """Half cycles down and across an image, of all basis functions up to the cut-off except the constant one."""
    bound = (2 * size * cutoff) ** 2
    half_cycles = range(size)
    return [(i, j) for i in half_cycles for j in half_cycles if 0 < i * i + j * j <= bound]


def _orthonormal(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """The Gram-Schmidt process, twice for each row, because rounding leaves the first result not quite orthogonal."""
    result: list[list[float]] = []
    for row in rows:
        rest = list(row)
        for _ in range(2):
            for earlier in result:
                share = math.fsum(map(mul, rest, earlier))
                rest = [value - share * other for value, other in zip(rest, earlier, strict=True)]
            rest = _unit(rest)
        result.append(rest)
    return result


def _unit(row: Sequence[float]) -> list[float]:
    length = math.sqrt(math.fsum(value * value for value in row))
    return [value / length for value in row]


def _synthesize(spectrum: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Fields `(count, channels, size, size)` in 2^-20, of coefficients `(..., down, across)` in 2^-24.

    NumPy's matrix products of whole numbers are exact. No coefficient exceeds the root of the number of channels, so
    that a sum of a thousand of them fits into 64 bits.
    """
    cosines = _cosines(spectrum.shape[-1], size)
    rows = _shift(spectrum @ cosines, _FINE)
    return _shift(cosines.T @ rows, 2 * _FINE - BITS)


def _shift(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    # A right shift rounds down, for negative numbers too; with half a unit added it rounds to the nearest.
    return (values + (1 << bits - 1)) >> bits


def _cosines(count: int, size: int) -> NDArray[np.int64]:
    """cos(pi k (2 i + 1) / (2 size)) for k half cycles at pixel i `(count, size)`, of mean square 1, in 2^-24."""
    # A context of its own: the caller's decimal settings may be anything.
    with localcontext(Context(prec=50, rounding=ROUND_HALF_EVEN)):
        scale = Decimal(2).sqrt() * 2**_FINE
        # The angle is a multiple of pi / (2 size), so that all values are among 4 size of them.
        circle = [int((scale * _cosine(_PI * step / (2 * size))).to_integral_value()) for step in range(4 * size)]
    table = [[circle[k * (2 * i + 1) % (4 * size)] for i in range(size)] for k in range(1, count)]
    return np.array([[2**_FINE] * size, *table], dtype=np.int64)


def _cosine(angle: Decimal) -> Decimal:
    """The power series, to forty digits for angles up to 2 pi."""
    term = result = Decimal(1)
    power = 0
    while abs(term) > Decimal("1e-42"):
        power += 2
        term = -term * angle * angle / (power * (power - 1))
        result += term
    return result

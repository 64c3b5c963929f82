"""Random numbers that belong to an image: the same whatever the batch, its order, its size and the device.

A counter-based generator: number j of an image is a hash of (seed, stream, image, j), computed for all images and
pixels at once in integer arithmetic, which is exact everywhere. The hash is the finalizer of SplitMix64 (Steele, Lea &
Flood 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor


def image_keys(images: Tensor) -> Tensor:
    """A number for each image `(batch,)`, int64, that depends on all of its pixels and on nothing else."""
    # Adding zero makes one of the two zeros of floating point.
    bits = (images.detach().float().flatten(1).contiguous() + 0.0).view(torch.int32).long()
    return _mix(_mix(bits + _counters(bits.shape[1], bits.device)).sum(1))


def uniform_numbers(keys: Tensor, count: int, *, seed: int, stream: tuple[int, ...]) -> Tensor:
    """`(batch, count)` float32 numbers, uniform in (0, 1), for `keys` `(batch,)`.

    Different seeds and streams give independent numbers.
    """
    state = _mix(keys.long() + _constant(seed, *stream))
    hashed = _mix(state[:, None] + _counters(count, keys.device))
    # 23 bits and a half: every value is exact in float32, and none is 0 or 1.
    return (_shift(hashed, 41).float() + 0.5) * 2.0**-23


def _mix(values: Tensor) -> Tensor:
    values = (values ^ _shift(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shift(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shift(values, 31)


def _shift(values: Tensor, bits: int) -> Tensor:
    """To the right, filled with zeros; on int64 the operator would fill with the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _counters(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, device=device) * _GOLDEN


def _constant(*numbers: int) -> int:
    """One number from several: the same hash, on single numbers."""
    state = torch.zeros((), dtype=torch.int64)
    for number in numbers:
        state = _mix(state + _GOLDEN + _signed(number % 2**64))
    return int(state)


def _signed(number: int) -> int:
    """The int64 with the bits of an unsigned number."""
    return number - 2**64 if number >= 2**63 else number


_GOLDEN = _signed(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiples of it are spread evenly."""

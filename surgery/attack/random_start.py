"""Random numbers that belong to an image, and the random start of a search.

A result must not depend on the batch that an image is in: on its size, its order, or which images have left. So every
image has its own counter-based generator: number j of an image is a hash of (seed, stream, key of the image, j),
computed for all images at once in integer arithmetic, which is exact on every device. The hash is the finalizer of
SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from surgery.attack.norms import NORMS


class ImageGenerator:
    """Random numbers for each image of a batch; `len(generator)` is the number of images.

    Every call draws new numbers for all images. The numbers of an image depend on its key, the seed, the stream and how
    many calls were made before, never on the other images: an attack that makes its calls in the same order for every
    batch gives each image the same result in every batch. Where images leave, index the generator as the images:
    `generator[standing]`. Draws that not every batch makes come from a stream of their own: `generator.stream(step)`.
    """

    def __init__(self, keys: Tensor, *, seed: int, stream: tuple[int, ...] = (), calls: int = 0) -> None:
        """`keys` `(batch,)`, int64: what the numbers of an image depend on, as `image_keys` gives them."""
        self.keys = keys
        self.seed = seed
        self._stream = stream
        self._calls = calls

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: Tensor) -> ImageGenerator:
        """The generator of some of the images, numbers or a mask; it continues where this one is."""
        return ImageGenerator(self.keys[rows], seed=self.seed, stream=self._stream, calls=self._calls)

    def stream(self, *numbers: int) -> ImageGenerator:
        """A generator for the same images with independent numbers, however many calls were made before."""
        return ImageGenerator(self.keys, seed=self.seed, stream=(*self._stream, *numbers))

    def uniform(self, *shape: int) -> Tensor:
        """`(batch, *shape)` float32 numbers, uniform in the open interval (0, 1)."""
        # The first call has the stream itself, as every start of a search in stored results. Later calls have negative
        # numbers, which no stream of a caller has.
        stream = (*self._stream, -self._calls) if self._calls else self._stream
        self._calls += 1
        return uniform_numbers(self.keys, math.prod(shape), seed=self.seed, stream=stream).reshape(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """`(batch, *shape)` float32 numbers of the standard normal distribution."""
        # In float64: in float32, the inverse of the distribution differs between devices in the tails.
        return torch.special.ndtri(self.uniform(*shape).double()).float()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """`(batch, *shape)` int64 numbers, uniform from `low` to `high - 1`; at most 2^23 different ones."""
        return low + (self.uniform(*shape).double() * (high - low)).long()


def generator_of(images: Tensor, seed: int, *, ids: Tensor | None = None) -> ImageGenerator:
    """The generator for images `(batch, ...)`: its numbers depend on their pixels, or on `ids` `(batch,)` instead."""
    return ImageGenerator(image_keys(images) if ids is None else ids, seed=seed)


class _Start(Protocol):
    """What `random_start` reads of an attack; `Attack` is defined above this file."""

    @property
    def norm(self) -> str: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def start(self) -> str: ...


def random_start(images: Tensor, attack: _Start, generator: torch.Generator | ImageGenerator) -> Tensor:
    """Return where the search of `attack` starts: the images, or uniform points of the balls around them, in [0, 1].

    `images` are `(batch, channels, height, width)` in [0, 1]. Training draws with a `torch.Generator`, for a batch;
    evaluations with an `ImageGenerator`, for each image. An attack with `start="zero"` draws nothing.
    """
    if attack.start == "zero":
        return images.detach().clone()
    count = images[0].numel() + 1
    if isinstance(generator, ImageGenerator):
        uniform = generator.uniform(count)
        # The balls of L2 and L1 need sums over pixels, whose order depends on the batch; in float64 the difference is
        # lost when the result is rounded to float32.
        uniform = uniform if attack.norm == "Linf" else uniform.double()
    else:
        uniform = torch.rand((len(images), count), generator=generator, device=generator.device).to(images.device)
        # `rand` can be 0, where the logarithms of the L1 and L2 balls are infinite.
        uniform = uniform.clamp_min(torch.finfo(uniform.dtype).tiny)
    # Clipped, not drawn again: images at the edge of the range start on it more often, as in published attacks.
    offset = attack.epsilon * NORMS[attack.norm].ball(uniform)
    return (images.detach() + offset.to(images.dtype).reshape(images.shape)).clamp_(0.0, 1.0)


def image_keys(images: Tensor) -> Tensor:
    """A number for each image `(batch,)`, int64, that depends on all of its pixels and on nothing else."""
    # Adding zero turns -0.0, which has other bits, into 0.0.
    bits = (images.detach().float().flatten(1).contiguous() + 0.0).view(torch.int32).long()
    # The counter makes the place of a pixel count. A sum of integers is exact, in whatever order a device adds.
    return _mix(_mix(bits + _counters(bits.shape[1], bits.device)).sum(1))


def uniform_numbers(keys: Tensor, count: int, *, seed: int, stream: tuple[int, ...]) -> Tensor:
    """`(batch, count)` float32 numbers, uniform in (0, 1), for `keys` `(batch,)`.

    Different seeds and streams give independent numbers.
    """
    constant = torch.zeros((), dtype=torch.int64)
    for number in (seed, *stream):
        constant = _mix(constant + _GOLDEN + _signed(number % 2**64))
    # Mixed before the counters are added: keys that differ by a multiple of the counter's step would otherwise have the
    # same numbers, shifted.
    state = _mix(keys.long() + int(constant))
    hashed = _mix(state[:, None] + _counters(count, keys.device))
    # 23 bits and a half: every value is exact in float32, and none is 0 or 1.
    return (_shift(hashed, 41).float() + 0.5) * 2.0**-23


def _mix(values: Tensor) -> Tensor:
    values = (values ^ _shift(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shift(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shift(values, 31)


def _shift(values: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill with zeros; the operator of int64 fills with the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _counters(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, device=device) * _GOLDEN


def _signed(number: int) -> int:
    """The int64 with the bits of an unsigned number; torch computes with no uint64."""
    return number - 2**64 if number >= 2**63 else number


_GOLDEN = _signed(0x9E3779B97F4A7C15)

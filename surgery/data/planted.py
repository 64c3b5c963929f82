"""`planted`: a generated data set with a known two-level hierarchy, the same bits on every machine.

It checks the paper's claim (Bai et al. 2021) from end to end: superclasses share coarse shapes that survive an attack,
their classes differ in weaker shapes, and each class has a fine pattern that identifies it but does not survive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import PCG64
from numpy.typing import NDArray

from surgery.data.checks import number, whole
from surgery.data.dataset import Dataset, Split
from surgery.data.draws import UNIT, normal_integers, signs, stream
from surgery.data.fields import BITS, smooth_fields
from surgery.data.sampling import divide
from surgery.errors import InputError
from surgery.graph.memory import free_memory
from surgery.hierarchy import Hierarchy

_STRENGTH = 16
_UNITS = BITS + _STRENGTH
_CHUNK = 256


def planted(
    *,
    superclasses: int = 3,
    subclasses: int = 3,
    image_size: int = 16,
    channels: int = 3,
    superclass_amplitude: float = 0.08,
    superclass_variation: float = 0.3,
    subclass_amplitude: float = 0.03,
    subclass_variation: float = 0.5,
    pattern_amplitude: float = 7 / 255,
    noise: float = 0.05,
    cutoff: float = 0.1,
    orthogonal: bool = True,
    train_size: int = 6000,
    test_size: int = 1000,
    validation: float = 0.05,
    seed: int = 0,
) -> Dataset:
    """Generate images of G superclasses with S classes each; class k of superclass g looks like

        x = 0.5 + a_s (1 + v_s n1) S_g + a_d (1 + v_d n2) D_k + a_p P_k + noise * n3

    clipped to [0, 1], in eight bits. S_g, D_k `(channels, image_size, image_size)`: smooth random fields of mean 0 and
    variance 1, up to `cutoff` cycles a pixel, `orthogonal` to each other or not. P_k: random signs, pixel by pixel.
    n1, n2 (one number for an image) and n3 (one for a pixel) are standard normal to within 6 standard deviations.

    a_s and v_s are `superclass_amplitude` and `superclass_variation`, a_d and v_d those of the subclass, and a_p is
    `pattern_amplitude`; amplitudes and `noise` are in [0, 1] pixel units, variations are relative. `train_size` images
    are made for training, of which the share `validation` is held out; labels repeat all classes in turn. A smaller set
    is the beginning of a larger one of the same seed.

    With the defaults, standard training relies on the pattern and has no robustness, and adversarial training at 8/255
    shows the superclasses in its correlation matrix. With `superclass_variation=0.8, subclass_amplitude=0.08` the shape
    that siblings share is not reliable, and the superclasses are not in the correlation matrix of robust networks.

    Raises InputError for numbers out of range, and where fewer orthogonal fields exist.
    """
    groups = whole(superclasses, "superclasses", least=1)
    count = groups * whole(subclasses, "subclasses", least=1)
    for what, size, least in (("train_size", train_size, count), ("test_size", test_size, 1), ("seed", seed, 0)):
        whole(size, what, least=least)
    shape = (whole(channels, "channels", least=1), whole(image_size, "image_size", least=2), image_size)
    # One byte for each pixel of an image, eight for those of fields and patterns.
    need, free = math.prod(shape) * (train_size + test_size + 8 * (groups + 2 * count)), free_memory()
    if need > free:
        size = f"{train_size + test_size:,} images of {image_size} pixels square"
        raise InputError(f"planted: {size} take {need / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free")
    fields = smooth_fields(
        stream(seed, "planted fields"),
        groups + count,
        shape,
        cutoff=number(cutoff, "cutoff, in cycles a pixel,", least=0, most=0.5),
        orthogonal=orthogonal,
    )
    recipe = _Recipe(
        superclass=_Variable.of(superclass_amplitude, superclass_variation, "superclass"),
        subclass=_Variable.of(subclass_amplitude, subclass_variation, "subclass"),
        noise=_fixed(number(noise, "noise", least=0, most=1), _UNITS - 16),
        coarse=fields[:groups].repeat(subclasses, axis=0).reshape(count, -1),
        fine=fields[groups:].reshape(count, -1),
        ground=_ground(stream(seed, "planted patterns"), count, math.prod(shape), pattern_amplitude),
    )
    hierarchy = planted_hierarchy(groups, subclasses)
    train = recipe.images(stream(seed, "planted train"), train_size, shape)
    data = Dataset(
        name="planted",
        title=f"planted {groups}x{subclasses}",
        class_names=hierarchy.class_names,
        train=train,
        validation=train.subset(slice(0)),
        test=recipe.images(stream(seed, "planted test"), test_size, shape),
        hierarchy=hierarchy,
    )
    return divide(data, validation=validation, train_size=None, test_size=None, seed=seed)


@dataclass(frozen=True, kw_only=True)
class _Variable:
    """The strength of a field, amplitude + spread * normal, in gray levels of 2^-16."""

    amplitude: int
    spread: int

    @staticmethod
    def of(amplitude: float, variation: float, what: str) -> _Variable:
        amplitude = number(amplitude, f"{what}_amplitude", least=0, most=1)
        variation = number(variation, f"{what}_variation", least=0, most=10)
        return _Variable(amplitude=_fixed(amplitude, _STRENGTH), spread=_fixed(amplitude * variation, _STRENGTH))

    def strengths(self, normal: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.amplitude + self.spread * normal // UNIT


@dataclass(frozen=True, kw_only=True, eq=False)
class _Recipe:
    """The parts of images, in whole numbers; fields and `ground` are `(classes, pixels)`.

    In units of 2^-36 of a gray level, sums stay below 2^60 for all amplitudes and variations that are allowed.
    """

    superclass: _Variable
    subclass: _Variable
    noise: int
    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]
    ground: NDArray[np.int64]

    def images(self, source: PCG64, size: int, shape: tuple[int, int, int]) -> Split:
        labels = np.arange(size) % len(self.ground)
        result = np.empty((size, self.ground.shape[1]), dtype=np.uint8)
        for start in range(0, size, _CHUNK):
            part = slice(start, start + _CHUNK)
            normal = normal_integers(source, (len(labels[part]), 2 + self.ground.shape[1]))
            # Added in place: a chunk of images in 64 bits is eight times the size of its result.
            value = self.noise * normal[:, 2:]
            value += self.ground[labels[part]]
            value += self.superclass.strengths(normal[:, :1]) * self.coarse[labels[part]]
            value += self.subclass.strengths(normal[:, 1:2]) * self.fine[labels[part]]
            result[part] = ((value + (1 << _UNITS - 1)) >> _UNITS).clip(0, 255)  # rounded to gray levels
        return Split(images=torch.from_numpy(result).reshape(size, *shape), labels=torch.from_numpy(labels))


def _ground(source: PCG64, count: int, pixels: int, amplitude: float) -> NDArray[np.int64]:
    """0.5 + a_p P_k for each class `(count, pixels)`, in gray levels of 2^-36."""
    step = _fixed(number(amplitude, "pattern_amplitude", least=0, most=1), _UNITS)
    return _fixed(0.5, _UNITS) + step * signs(source, count * pixels).reshape(count, pixels)


def _fixed(value: float, bits: int) -> int:
    """A value in [0, 1] pixel units in gray levels of 2^-bits; a product of two floats is the same everywhere."""
    return round(255 * value * 2**bits)


def planted_hierarchy(groups: int, subclasses: int) -> Hierarchy:
    """Superclasses A, B, ... with classes A1, A2, ...; numbers instead of letters for more than 26 superclasses."""
    names = [chr(ord("A") + group) if groups <= 26 else f"{group + 1}." for group in range(groups)]
    members = {name: [f"{name}{number}" for number in range(1, subclasses + 1)] for name in names}
    return Hierarchy.of_groups(members, method="planted")

from __future__ import annotations

import decimal
import math

import numpy as np
import pytest
import scipy.fft
import torch

from surgery.data import planted
from surgery.data.draws import UNIT, normal_integers, signs, stream
from surgery.data.fields import BITS, smooth_fields
from surgery.errors import InputError

QUIET = {
    "superclass_amplitude": 0.0,
    "subclass_amplitude": 0.0,
    "pattern_amplitude": 0.0,
    "noise": 0.0,
    "superclass_variation": 0.0,
    "subclass_variation": 0.0,
    "validation": 0.0,
    "train_size": 90,
    "test_size": 9,
}


def fields(count: int = 12, size: int = 16, **options) -> np.ndarray:
    given = {"cutoff": 0.1, "orthogonal": True, **options}
    return smooth_fields(stream(0, "test"), count, (3, size, size), **given) / 2**BITS


def pixels(**changes) -> torch.Tensor:
    """The training images, `(images, pixels)`, as numbers around 0 in [0, 1] pixel units."""
    return planted(**{**QUIET, **changes}).train.images.flatten(1).double() / 255 - 0.5


def test_the_default_set_is_the_same_on_every_machine() -> None:
    data = planted()
    assert data.train.digest == "af2ebb869de6b9123f30a72ef96ac82758837395244bc6825949aa01552380d5"
    assert data.digest == "bb2f81860f993f54f6102c8b060fdfe353f0810c0693f2cff2a0071a9da49b86"


def test_another_set_is_the_same_on_every_machine() -> None:
    data = planted(
        superclasses=2, subclasses=4, image_size=9, channels=1, orthogonal=False, cutoff=0.2, noise=0.1,
        train_size=100, test_size=20, seed=7,
    )  # fmt: skip
    assert data.digest == "55f5092e1c603b8296601389f4f5b6ad80bfd52c846b2e224df7a612b7639ba9"


def test_what_the_caller_set_does_not_matter() -> None:
    expected = planted(train_size=20, test_size=10).digest
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        assert planted(train_size=20, test_size=10).digest == expected


def test_fields_have_mean_0_and_variance_1_and_are_orthogonal() -> None:
    flat = fields().reshape(12, -1)
    # A field is rounded to 2^-20, its coefficients to 2^-24.
    np.testing.assert_allclose(flat.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(flat @ flat.T / flat.shape[1], np.eye(12), atol=1e-5)


def test_fields_that_are_not_orthogonal_still_have_variance_1() -> None:
    flat = fields(orthogonal=False).reshape(12, -1)
    gram = flat @ flat.T / flat.shape[1]
    np.testing.assert_allclose(np.diag(gram), 1, atol=1e-5)
    assert np.abs(gram - np.eye(12)).max() > 0.1


@pytest.mark.parametrize(("size", "cutoff"), [(16, 0.1), (16, 0.3), (11, 0.2), (32, 0.1)])
def test_fields_have_nothing_above_the_cutoff_and_all_below(size: int, cutoff: float) -> None:
    spectrum = scipy.fft.dctn(fields(size=size, cutoff=cutoff), axes=(-2, -1), norm="ortho")
    cycles = np.hypot(*np.meshgrid(np.arange(size), np.arange(size))) / (2 * size)
    np.testing.assert_allclose(spectrum[..., cycles > cutoff], 0, atol=1e-4)
    assert (np.abs(spectrum[..., cycles <= cutoff]).max(axis=(0, 1))[1:] > 0.1).all()


def test_normal_integers_are_nearly_normal() -> None:
    found = normal_integers(stream(1, "test"), (1000, 400)) / UNIT
    # Five standard errors each; the kurtosis of a sum of twelve uniform numbers is 3 - 1.2 / 12.
    assert abs(found.mean()) < 5 / math.sqrt(found.size)
    assert abs(found.var() - 1) < 5 * math.sqrt(2 / found.size)
    assert abs((found**4).mean() - 2.9) < 5 * math.sqrt(96 / found.size)
    assert abs((found > 1.96).mean() - 0.025) < 0.002
    assert np.abs(found).max() <= 6
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1]) < 5 / math.sqrt(1000)


def test_rows_do_not_depend_on_how_they_are_drawn() -> None:
    source = stream(2, "test")
    parts = np.concatenate([normal_integers(source, (rows, 7)) for rows in (1, 4, 5)])
    np.testing.assert_array_equal(parts, normal_integers(stream(2, "test"), (10, 7)))


def test_signs_are_fair() -> None:
    found = signs(stream(3, "test"), 10000)
    assert set(found.tolist()) == {-1, 1}
    assert abs(found.mean()) < 5 / 100


def test_siblings_share_the_field_of_their_superclass() -> None:
    data = planted(**{**QUIET, "superclass_amplitude": 0.08})
    assert data.hierarchy is not None
    images = data.train.images.flatten(1)
    groups = torch.tensor(data.hierarchy.superclass)[data.train.labels]
    for group in range(3):
        assert len(images[groups == group].unique(dim=0)) == 1
    found = pixels(superclass_amplitude=0.08)[[0, 3, 6]]
    # Rounding to a gray level adds a twelfth of its square.
    gram = found @ found.T / found.shape[1] / 0.08**2
    torch.testing.assert_close(gram, torch.eye(3).double(), atol=0.01, rtol=0)


def test_every_class_has_a_field_of_its_own() -> None:
    found = pixels(subclass_amplitude=0.08)[:9]
    gram = found @ found.T / found.shape[1] / 0.08**2
    torch.testing.assert_close(gram, torch.eye(9).double(), atol=0.01, rtol=0)


def test_the_pattern_is_one_sign_a_pixel() -> None:
    found = planted(**{**QUIET, "pattern_amplitude": 7 / 255}).train.images
    # 127.5 + 7 and 127.5 - 7, rounded up.
    assert found.unique().tolist() == [121, 135]
    assert len(found.flatten(1).unique(dim=0)) == 9
    agreement = (found[:9].flatten(1)[:, None] == found[:9].flatten(1)).double().mean(-1).fill_diagonal_(0.5)
    assert bool(((agreement - 0.5).abs() < 0.1).all())


def test_fields_vary_in_strength_from_image_to_image() -> None:
    steady = pixels(superclass_amplitude=0.05)[::9]
    varied = pixels(superclass_amplitude=0.05, superclass_variation=0.3, train_size=9000)[::9]
    strength = varied @ steady[0] / steady[0].square().sum()
    assert abs(strength.mean() - 1) < 0.05
    assert abs(strength.std() - 0.3) < 0.04
    # Half a gray level of rounding in each, the steady one's times a strength of up to 2.5.
    torch.testing.assert_close(varied, strength[:, None] * steady[:1], atol=2 / 255, rtol=0)


def test_noise_has_its_standard_deviation() -> None:
    found = pixels(noise=0.05)
    assert abs(found.mean()) < 0.001
    # Rounding adds a twelfth of the square of a gray level.
    assert abs(found.std() - math.sqrt(0.05**2 + 1 / 12 / 255**2)) < 0.001


def test_values_are_clipped() -> None:
    found = planted(**{**QUIET, "superclass_amplitude": 1.0}).train.images
    assert (int(found.min()), int(found.max())) == (0, 255)


def test_smaller_sets_are_the_beginning_of_larger_ones() -> None:
    small = planted(train_size=20, test_size=10, validation=0)
    large = planted(train_size=600, test_size=300, validation=0)
    for which in ("train", "test"):
        part = small.splits[which]
        assert torch.equal(large.splits[which].images[: len(part)], part.images)
    assert not torch.equal(small.train.images[:10], small.test.images)


def test_classes_are_balanced_and_named_by_superclass() -> None:
    data = planted(superclasses=2, subclasses=3, train_size=60, test_size=12, validation=0.1)
    assert data.title == "planted 2x3"
    assert data.class_names == ("A1", "A2", "A3", "B1", "B2", "B3")
    assert data.train.labels.bincount().tolist() == [9] * 6
    assert data.validation.labels.bincount().tolist() == [1] * 6
    assert data.hierarchy is not None
    assert data.hierarchy.groups == ((0, 1, 2), (3, 4, 5))


def test_seeds_make_different_fields() -> None:
    first, other = (pixels(superclass_amplitude=0.08, seed=seed)[0] for seed in (0, 1))
    assert abs(float(torch.corrcoef(torch.stack((first, other)))[0, 1])) < 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"superclasses": 0}, "superclasses is a whole number of at least 1; got 0"),
        ({"subclasses": "3"}, "subclasses is a whole number of at least 1; got '3'"),
        ({"train_size": 8}, "train_size is a whole number of at least 9; got 8"),
        ({"pattern_amplitude": 7}, "pattern_amplitude is a number from 0 to 1; got 7"),
        ({"superclass_variation": -1}, "superclass_variation is a number from 0 to 10; got -1"),
        ({"noise": "0.1"}, "noise is a number from 0 to 1; got '0.1'"),
        ({"cutoff": 0.6}, "cutoff, in cycles a pixel, is a number from 0 to 0.5; got 0.6"),
        ({"superclasses": 5, "subclasses": 8}, r"45 orthogonal fields do not fit: images of 3 x 16 x 16 have 36"),
        ({"cutoff": 0.0}, "have 0 of up to 0 cycles a pixel"),
        ({"seed": -1}, "seed is a whole number of at least 0"),
    ],
)
def test_numbers_out_of_range_are_an_error(changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        planted(**changes)

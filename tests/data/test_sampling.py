from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.data import Dataset, Split
from surgery.data.draws import stream
from surgery.data.sampling import balanced, divide
from surgery.errors import InputError


def dataset(train: list[int], validation: tuple[int, ...] = (), test: tuple[int, ...] = (0, 1) * 30) -> Dataset:
    def split(labels) -> Split:
        images = torch.arange(len(labels)).to(torch.uint8).reshape(-1, 1, 1, 1)
        return Split(images=images, labels=torch.tensor(labels, dtype=torch.int64))

    names = tuple(str(label) for label in range(max(train) + 1))
    return Dataset(
        name="own", title="own", class_names=names, hierarchy=None,
        train=split(train), validation=split(validation), test=split(test),
    )  # fmt: skip


def numbers(split: Split) -> list[int]:
    return split.images.flatten().tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.data())
def test_every_class_has_its_share_within_one_image(labels: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(labels)))
    found = balanced(torch.tensor(labels), size, stream(data.draw(st.integers(0, 9)), "test"))
    assert len(found) == size
    assert bool((found.diff() > 0).all())
    for label in range(6):
        share = labels.count(label) * size / len(labels)
        assert abs(int((torch.tensor(labels)[found] == label).sum()) - share) < 1


def test_a_part_is_the_same_on_every_machine() -> None:
    assert balanced(torch.arange(40) % 4, 8, stream(0, "test")).tolist() == [2, 4, 19, 21, 27, 28, 37, 38]


def test_training_images_are_divided_without_loss() -> None:
    data = divide(dataset([0, 1] * 100), validation=0.05, train_size=None, test_size=None, seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (190, 10, 60)
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(200))
    assert data.validation.labels.bincount().tolist() == [5, 5]


def test_sizes_are_of_what_is_taken_before_validation_is_held_out() -> None:
    data = divide(dataset([0, 1, 1] * 60), validation=0.1, train_size=60, test_size=20, seed=0)
    assert data.train.labels.bincount().tolist() == [18, 36]
    assert data.validation.labels.bincount().tolist() == [2, 4]
    assert data.test.labels.bincount().tolist() == [10, 10]


def test_the_seed_changes_training_images_and_not_test_images() -> None:
    first, again, other = (
        divide(dataset([0, 1] * 100), validation=0.1, train_size=100, test_size=20, seed=seed) for seed in (0, 0, 1)
    )
    assert first.digest == again.digest
    assert numbers(first.train) != numbers(other.train)
    assert numbers(first.validation) != numbers(other.validation)
    assert numbers(first.test) == numbers(other.test)


def test_a_validation_split_of_its_own_is_kept_or_left_out() -> None:
    own = dataset([0, 1] * 20, (1, 0))
    kept = divide(own, validation=0.5, train_size=None, test_size=None, seed=0)
    assert (len(kept.train), len(kept.validation)) == (40, 2)
    without = divide(own, validation=0, train_size=None, test_size=None, seed=0)
    assert (len(without.train), len(without.validation)) == (40, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_size": 201}, "own: train_size is 201, but there are 200 train images"),
        ({"train_size": 1}, "own: train_size is 1, but there are 2 classes"),
        ({"train_size": 0}, "train_size is a whole number of at least 1; got 0"),
        ({"train_size": 10.0}, "train_size is a whole number of at least 1; got 10.0"),
        ({"test_size": 61}, "own: test_size is 61, but there are 60 test images"),
        ({"validation": 1.0}, "the share of the training images that is held out, is a number from 0 to 0.9; got 1.0"),
        ({"validation": -0.1}, "got -0.1"),
        ({"validation": "5 %"}, "got '5 %'"),
        ({"validation": float("nan")}, "got nan"),
        ({"seed": -1}, "seed is a whole number of at least 0; got -1"),
        ({"train_size": 2, "validation": 0.5}, "class '.' has no training image"),
    ],
)
def test_sizes_that_cannot_be_had_are_an_error(changes, message: str) -> None:
    given = {"validation": 0.05, "train_size": None, "test_size": None, "seed": 0, **changes}
    with pytest.raises(InputError, match=message):
        divide(dataset([0, 1] * 100), **given)


def test_a_class_that_validation_would_use_up_is_named() -> None:
    with pytest.raises(InputError, match="class '1' has no training image"):
        divide(dataset([0, 0, 0, 1]), validation=0.5, train_size=2, test_size=None, seed=0)

from __future__ import annotations

import hashlib
import struct

import pytest
import torch

from surgery.data import Dataset, Split, images_as_float, load
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy


def split(labels: list[int], shape: tuple[int, ...] = (3, 4, 4)) -> Split:
    images = torch.arange(len(labels)).mul(7).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, *shape).contiguous()
    return Split(images=images, labels=torch.tensor(labels, dtype=torch.int64))


def dataset(**changes: object) -> Dataset:
    parts = {
        "name": "own", "title": "own", "class_names": ("cat", "dog", "car"),
        "train": split([0, 1, 2, 0]), "validation": split([]), "test": split([1]), "hierarchy": None,
    }  # fmt: skip
    return Dataset(**{**parts, **changes})


def test_floats_are_the_value_over_255() -> None:
    found = images_as_float(torch.tensor([[0, 1, 128, 255]], dtype=torch.uint8))
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.0, torch.tensor(1 / 255).item(), torch.tensor(128 / 255).item(), 1.0]]
    with pytest.raises(InputError, match="held as uint8, 0 to 255; got"):
        images_as_float(found)


def test_batches_come_in_order_and_the_last_is_short() -> None:
    data = split([0, 1, 2, 3, 4])
    found = list(data.batches(2))
    assert [len(labels) for _, labels in found] == [2, 2, 1]
    assert torch.equal(torch.cat([images for images, _ in found]), images_as_float(data.images))
    assert torch.cat([labels for _, labels in found]).tolist() == [0, 1, 2, 3, 4]
    assert list(split([]).batches(2)) == []
    with pytest.raises(InputError, match="batch_size is a whole number of at least 1; got 0"):
        list(data.batches(0))


@pytest.mark.parametrize(
    ("indices", "labels"),
    [
        ([2, 0], [2, 0]),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([True, False, True]), [0, 2]),
        (slice(1, None), [1, 2]),
        ([], []),
    ],
)
def test_subsets_are_taken_by_index_mask_and_slice(indices, labels: list[int]) -> None:
    found = split([0, 1, 2]).subset(indices)
    assert found.labels.tolist() == labels
    assert found.images[:, 0, 0, 0].tolist() == [7 * label for label in labels]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([3], "index 3 is none of the 3 images, 0 to 2"),
        ([-1, 0], "index -1 is none"),
        (torch.tensor([True]), "a mask has one entry for each of the 3 images"),
        ([0.5], "a list of whole numbers"),
        ([[0]], "a list of whole numbers"),
    ],
)
def test_wrong_indices_are_an_error(indices, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split([0, 1, 2]).subset(indices)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), "images are uint8 .* got torch.float32"),
        (torch.zeros(2, 4, 4).byte(), torch.zeros(2).long(), r"got torch.uint8 \(2, 4, 4\)"),
        (
            torch.zeros(2, 3, 4, 4).byte(),
            torch.zeros(3).long(),
            r"for each of the 2 images; got torch.int64 \(3,\)",
        ),
        (torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2), "got torch.float32"),
        (torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2, device="meta").long(), "labels are on meta, the images on cpu"),
    ],
)
def test_a_split_refuses_what_does_not_fit(images, labels, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(images=images, labels=labels)


def test_digests_are_of_content_and_shape() -> None:
    digest = split([0, 1, 2]).digest
    content = b"uint8 (3, 3, 4, 4)" + bytes(7 * n for n in range(3) for _ in range(48)) + struct.pack("<3q", 0, 1, 2)
    assert digest == hashlib.sha256(content).hexdigest()
    assert split([0, 1, 2]).digest == digest
    assert split([0, 1, 1]).digest != digest
    assert split([0, 1, 2], (3, 2, 8)).digest != digest
    other = split([0, 1, 2])
    other.images[2, 0, 0, 0] += 1
    assert other.digest != digest


def test_digests_do_not_depend_on_how_images_lie_in_memory() -> None:
    data = split([0, 1, 2])
    last = Split(images=data.images.to(memory_format=torch.channels_last), labels=data.labels)
    assert last.digest == data.digest


def test_a_dataset_knows_its_shape_and_classes() -> None:
    data = dataset()
    assert data.num_classes == 3
    assert data.input_shape == (3, 4, 4)
    assert data.digest == dataset().digest
    assert data.digest != dataset(test=split([2])).digest
    assert data.digest != dataset(class_names=("cat", "dog", "bus")).digest


def test_a_dataset_moves_as_a_whole() -> None:
    moved = dataset().train.to("meta")
    assert (moved.images.device.type, moved.labels.device.type) == ("meta", "meta")
    assert dataset().to("cpu").digest == dataset().digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": split([0, 3])}, "label 3 of the test split is none of the 3 classes 0 to 2"),
        ({"validation": split([-1])}, "label -1 of the validation split"),
        ({"train": split([0, 2])}, "class 'dog' has no training image"),
        ({"test": split([0], (3, 4, 5))}, r"the test images are \(3, 4, 5\) on cpu, the training images \(3, 4, 4\)"),
        ({"class_names": ("cat", "dog", "cat")}, "classes 0 and 2 are both called 'cat'"),
        (
            {"hierarchy": Hierarchy.of_labels([0, 0, 1], class_names=("dog", "cat", "car"), method="own")},
            "the hierarchy has other classes than the data, or in another order",
        ),
    ],
)
def test_a_dataset_refuses_what_does_not_fit(changes, message: str) -> None:
    with pytest.raises(InputError, match=f"own: {message}"):
        dataset(**changes)


def test_a_split_is_found_by_its_name() -> None:
    data = dataset(validation=split([1]))
    assert [data.split(which) for which in data.splits] == list(data.splits.values())
    with pytest.raises(InputError, match=r"own: unknown split 'tset'; .*\n.*did you mean 'test'"):
        data.split("tset")


def test_an_empty_validation_split_is_refused_where_it_is_used() -> None:
    data = load("planted", train_size=90, test_size=9, validation=0)
    assert len(data.validation) == 0
    assert data.validation.images.shape == (0, 3, 16, 16)
    with pytest.raises(InputError, match=r"planted: the validation split has no images\n.*validation=0\.05"):
        data.split("validation")
    with pytest.raises(InputError, match="own: the test split has no images"):
        dataset(test=split([])).split("test")


def test_data_print_their_sizes_and_no_images() -> None:
    data = load("planted", train_size=100, test_size=9, validation=0.1)
    assert repr(data) == (
        "Dataset 'planted': planted 3x3\n"
        "  images: 90 train, 10 validation, 9 test; uint8 (3, 16, 16) on cpu\n"
        "  9 classes, 3 known superclasses: A1, A2, A3, B1, B2, B3, C1, C2, C3"
    )
    assert repr(data.test) == "Split of 9 images: uint8 (3, 16, 16) on cpu"
    many = tuple(f"class number {number}" for number in range(1000))
    lines = repr(dataset(class_names=many, train=split([*range(1000)]))).splitlines()
    assert len(lines) == 3
    assert all(len(line) < 140 for line in lines)
    assert lines[2].startswith("  1000 classes, no known superclasses: class number 0, ")

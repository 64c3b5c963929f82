"""What `evaluate` takes as data and as attacks, and what it says where they do not fit."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from surgery.attack import confusion_matrix, evaluate, pgd
from surgery.attack.samples import images_and_labels
from surgery.data import planted
from surgery.errors import InputError

PGD = pgd(epsilon="2/255", steps=2, step_size="1/255")


class Items(Dataset):
    """Items as data sets of torchvision give them."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


class Stream(IterableDataset):
    def __init__(self, images, labels):
        self.items = list(zip(images, labels.tolist(), strict=True))

    def __iter__(self):
        return iter(self.items)


class Pictures(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("RGB", (8, 8)), index


class Broken(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise KeyError(f"image {index}")


KINDS = {
    "loader": lambda images, labels: DataLoader(TensorDataset(images, labels), batch_size=7),
    "items": Items,
    "arrays": lambda images, labels: Items(images.numpy(), labels.numpy()),
    "iterable": Stream,
    "loader of an iterable": lambda images, labels: DataLoader(Stream(images, labels), batch_size=7),
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_sets_and_loaders_of_torch_are_read(model, images, labels, kind):
    expected = evaluate(model, (images[:30], labels[:30]), {"pgd": PGD})
    before = torch.random.get_rng_state()
    found = evaluate(model, KINDS[kind](images[:30], labels[:30]), {"pgd": PGD})
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(found["pgd"].predictions, expected["pgd"].predictions)
    assert torch.equal(found["pgd"].labels, labels[:30])


def test_images_of_eight_bits_stay_in_eight_bits(images, labels):
    bytes_ = (255 * images[:5]).to(torch.uint8)
    found, _ = images_and_labels(Items(bytes_, labels[:5]))
    assert torch.equal(found, bytes_)


def test_a_matrix_takes_a_loader(model, images, labels):
    loader = DataLoader(TensorDataset(images[:30], labels[:30]), batch_size=7)
    assert int(confusion_matrix(model, loader, PGD).images_per_class.sum()) == 30


WRONG = {
    "pictures": (lambda images, labels: Pictures(), r"Pictures: reading.*TypeError(.|\n)*ToTensor\(\)"),
    "broken": (lambda images, labels: Broken(), r"Broken: reading its images and labels raised KeyError: .*image 0"),
    "normalized": (
        lambda images, labels: Items(3 * images, labels),
        r"expected pixels from 0 to 1, got up to [12]\.\d+\n",
    ),
    "no labels": (lambda images, labels: DataLoader(images), r"Tensor: expected batches of images and labels"),
    "nothing": (lambda images, labels: Stream([], labels[:0]), "Stream has no images"),
    "another type": (
        lambda images, labels: {"images": images},
        r"data: expected a pair of tensors .*DataLoader of torch, got dict",
    ),
    "an array": (lambda images, labels: np.zeros((3, 3, 8, 8)), r"data: expected a pair of tensors .* got ndarray"),
    "no test images": (
        lambda images, labels: dataclasses.replace(
            planted(train_size=9, test_size=9), test=planted(train_size=9, test_size=9).test.subset(slice(0))
        ),
        r"planted: the test split has no images\n.*test/<class>/",
    ),
    "an empty split": (
        lambda images, labels: planted(train_size=9, test_size=9).test.subset(slice(0)),
        "the split has no images",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_data_are_refused(model, images, labels, case):
    make, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        evaluate(model, make(images, labels), {"pgd": PGD})


def test_a_single_attack_needs_no_name(model, images, labels):
    found = evaluate(model, (images, labels), PGD)
    assert list(found) == ["natural", "attack"]
    named = evaluate(model, (images, labels), {"pgd": PGD})
    assert torch.equal(found["attack"].predictions, named["pgd"].predictions)


@pytest.mark.parametrize("attacks", [[PGD], pgd, "pgd", None])
def test_attacks_that_are_no_attacks_are_refused(model, images, labels, attacks):
    with pytest.raises(InputError, match=r"attacks: expected an attack, a callable with norm and epsilon, got"):
        evaluate(model, (images, labels), attacks)


def test_an_accuracy_at_chance_is_noticed(model, images, labels):
    assert evaluate(model, (images, labels), PGD).notices == ()
    shuffled = evaluate(model, (images, (labels + 1) % 5), PGD)
    [notice] = shuffled.notices
    assert notice.startswith("natural accuracy 0.0% is not above chance (20.0%): is the normalization")
    assert f"notice: {notice}" in repr(shuffled)
    assert "notice: " in shuffled._repr_html_()

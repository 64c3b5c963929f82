"""Data and networks on which an epoch takes a tenth of a second."""

import pytest
import torch
from torch import nn

from surgery.attack import pgd
from surgery.data import Dataset, Split
from surgery.hierarchy import Hierarchy
from surgery.train import PLAIN, Constant, Objective, Optimizer, TrainingConfig

NAMES = ("a", "b", "c", "d")


def split(count, seed):
    """Images whose class is a weak color and a strong place, both learned within a few epochs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(NAMES)
    images = torch.randint(90, 150, (count, 3, 8, 8), generator=generator)
    for label in range(len(NAMES)):
        row, column = divmod(label, 2)
        images[labels == label, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 60
    return Split(images=images.to(torch.uint8), labels=labels)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On networks this small, threads that wait for each other take more time than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data():
    return Dataset(
        name="places",
        title="places",
        class_names=NAMES,
        train=split(72, 0),
        validation=split(32, 1),
        test=split(32, 2),
        hierarchy=Hierarchy.of_labels([0, 0, 1, 1], class_names=NAMES, method="test"),
    )


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(128, 4),
        )


@pytest.fixture
def attack():
    return pgd(epsilon="8/255", steps=2, step_size="6/255")


@pytest.fixture
def config(attack):
    return TrainingConfig(
        objective=Objective(kind="pgd", attack=attack),
        optimizer=Optimizer(momentum=0.9, weight_decay=5e-4),
        schedule=Constant(learning_rate=0.05),
        epochs=2,
        batch_size=16,
        selection=attack,
        seed=3,
    )


@pytest.fixture
def plain():
    return PLAIN

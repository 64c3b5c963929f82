"""A small network with batch norm, and images on which epsilon decides how robust it is."""

import pytest
import torch
from torch import nn
from torch.nn import functional


class Small(nn.Module):
    """Two convolutions with batch norm, logits of five classes."""

    def __init__(self, classes=5):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False)
        self.other_norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(x)))
        x = functional.relu(self.other_norm(self.second(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="package")
def images():
    """`(160, 3, 8, 8)`: smooth differences between images, so that the network does not say the same of all."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(160, 3, 1, 1, generator=generator)
    return (0.7 * colors + 0.3 * torch.rand(160, 3, 8, 8, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="package")
def model(images):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Small()
    model.train()
    with torch.no_grad():
        for _ in range(100):
            model(images)  # statistics of the batch norms
        model.eval()
        model.head.bias -= model(images).mean(0)
        model.head.weight *= 20
        model.head.bias *= 20
    return model


@pytest.fixture(scope="package")
def labels(model, images):
    """What the network says, except for every tenth image."""
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[::10] = (labels[::10] + 1) % 5
    return labels


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Tests run in parallel processes: on small networks, threads that wait for each other cost more than they gain.

    For the package, so that the fixtures that evaluate run with one thread as well.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

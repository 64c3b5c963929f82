"""The network of a recipe is made for the images of its data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from surgery.stages.network import NetworkTable, make_network, network_arguments


@pytest.mark.parametrize("architecture", ["linear", "convnet"])
@pytest.mark.parametrize("shape", [(3, 16, 24), (1, 24, 16), (3, 16, 16)])
def test_a_network_is_made_for_images_that_are_not_square(architecture: str, shape: tuple[int, int, int]) -> None:
    data: Any = SimpleNamespace(input_shape=shape, num_classes=5)
    network = make_network(NetworkTable(architecture=architecture), data, seed=0)
    assert network.eval()(torch.zeros(2, *shape)).shape == (2, 5)


def test_square_images_give_the_same_arguments_as_ever() -> None:
    """They are in checkpoints, which other versions read."""
    data: Any = SimpleNamespace(input_shape=(3, 8, 8), num_classes=5)
    found = network_arguments(NetworkTable(architecture="linear"), data)
    assert found == {"in_channels": 3, "input_size": 8, "num_classes": 5}

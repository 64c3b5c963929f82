"""torch 2.14 crashes in the weight gradient of narrow convolutions with a stride in channels last; `fit` avoids it."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from surgery.graph import trace
from surgery.models import build
from surgery.train.engine import crashes_in_channels_last

CRASH = """
import torch
from torch import nn
torch.set_num_threads(2)
network = nn.Conv2d(8, 16, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
for _ in range(4):
    network(torch.randn(75, 8, 16, 16).to(memory_format=torch.channels_last)).square().sum().backward()
"""
TRAINING = """
import torch
from torch import nn
from surgery.data import planted
from surgery.train import Constant, Objective, Optimizer, TrainingConfig, fit
torch.set_num_threads(2)
config = TrainingConfig(
    objective=Objective(kind="standard"), optimizer=Optimizer(momentum=0.9, weight_decay=0.0),
    schedule=Constant(learning_rate=0.01), epochs=3, batch_size=75, evaluate_every=0,
)
network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 1, stride=2), nn.Flatten(), nn.LazyLinear(9))
network(torch.zeros(1, 3, 16, 16))
network = network.to(memory_format=torch.channels_last)  # as the caller may have it
trained = fit(network, planted(train_size=75, test_size=9, validation=0), config)
print(trained.notes)
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_training_of_a_network_with_such_a_convolution_ends():
    done = run(TRAINING)
    assert done.returncode == 0, done.stderr
    assert "not in channels last" in done.stdout


def test_torch_still_crashes():
    if run(CRASH).returncode == 0:
        pytest.skip("torch has mended it: `crashes_in_channels_last` can go, once this version is the lowest")


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda: build("resnet18", width=8), True),
        (lambda: build("resnet18", width=16), False),
        (lambda: build("convnet", width=4), False),
        (lambda: nn.Conv2d(3, 8, 1, stride=(1, 2)), True),
        (lambda: nn.Conv2d(3, 8, 2, stride=2), False),
        (lambda: trace(build("resnet18", width=8).eval(), torch.rand(1, 3, 16, 16)), True),
    ],
)
def test_the_convolutions_of_a_network_decide(network, expected):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert crashes_in_channels_last(network().eval(), torch.rand(2, 3, 16, 16)) == expected
        torch.set_num_threads(1)
        assert not crashes_in_channels_last(network().eval(), torch.rand(2, 3, 16, 16))
    finally:
        torch.set_num_threads(threads)

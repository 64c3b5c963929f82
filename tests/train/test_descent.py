import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from surgery.errors import InputError
from surgery.train import Optimizer
from surgery.train.descent import Descent


def gradients(network, seed):
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.parameters():
        tensor.grad = torch.randn(tensor.shape, generator=generator)


@pytest.mark.parametrize(
    ("momentum", "decay", "nesterov"), [(0.9, 5e-4, False), (0.9, 5e-4, True), (0.0, 1e-2, False), (0.5, 0.0, False)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_goes_where_that_of_torch_goes(momentum, decay, nesterov, layout):
    mine = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=layout)
    theirs = copy.deepcopy(mine)
    descent = Descent(
        dict(mine.named_parameters()), Optimizer(momentum=momentum, weight_decay=decay, nesterov=nesterov)
    )
    reference = torch.optim.SGD(
        theirs.parameters(), lr=1.0, momentum=momentum, weight_decay=decay, nesterov=nesterov, foreach=False
    )
    for step, rate in enumerate([0.1, 0.05, 0.2]):
        gradients(mine, step)
        gradients(theirs, step)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        descent.step(rate)
    # Multiplying and adding in one instruction or in two makes a difference in the last bit.
    for found, expected in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)
        assert found.grad is None


def test_what_has_no_gradient_stays():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].bias.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    descent = Descent(dict(network.named_parameters()), Optimizer(momentum=0.9, weight_decay=0.1))
    assert list(descent.velocity) == ["0.weight", "1.weight", "1.bias"]
    network[0].weight.grad = torch.ones(2, 2)
    descent.step(0.1)
    changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ["0.weight"]


def test_training_does_not_wait_for_a_compiler_that_it_does_not_use():
    code = """
import sys, torch
from surgery.data import planted
from surgery.models import build
from surgery.train import *
plan = TrainingPlan(objective=Objective(kind="standard"), optimizer=Optimizer(momentum=0.9, weight_decay=0.0),
    schedule=Constant(learning_rate=0.1), epochs=1, batch_size=32, evaluate_every=0)
fit(build("convnet", num_classes=9, width=2), planted(train_size=64, test_size=9), plan)
print("torch._dynamo" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"weight_decay": float("nan")}, "weight decay is nan"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov goes with a momentum"),
    ],
)
def test_numbers_that_make_no_optimiser_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Optimizer(**{"momentum": 0.9, "weight_decay": 0.0, **changes})

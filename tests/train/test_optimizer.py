import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from surgery.errors import InputError
from surgery.train import PLAIN, Objective, Optimizer
from surgery.train.batches import Batch
from surgery.train.processes import ALONE
from surgery.train.step import Stepper


@pytest.mark.parametrize(("momentum", "decay", "nesterov"), [(0.9, 5e-4, True), (0.9, 0.0, False), (0.0, 1e-2, False)])
def test_steps_are_those_of_the_optimizer_that_the_plan_names(momentum, decay, nesterov):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 4, 4, generator=generator)
    labels = torch.randint(0, 5, (8,), generator=generator)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 5))
    network[1].bias.requires_grad_(False)
    expected = copy.deepcopy(network)
    stepper = Stepper(
        network,
        images,
        objective=Objective(kind="standard"),
        optimizer=Optimizer(momentum=momentum, weight_decay=decay, nesterov=nesterov),
        engine=PLAIN,
        processes=ALONE,
    )
    trained = [tensor for tensor in expected.parameters() if tensor.requires_grad]
    reference = torch.optim.SGD(trained, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    batch = Batch(images=images, labels=labels, start=images, whole=len(images))
    for rate in (0.1, 0.05, 0.2):
        stepper.step(batch, rate=rate, perturb=False)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        functional.cross_entropy(expected(images), labels).backward()
        reference.step()
    for found, wanted in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-7)
        assert found.grad is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "momentum below 1, got 1.0"),
        ({"momentum": -0.1}, "momentum of 0 or more, got -0.1"),
        ({"weight_decay": float("nan")}, "weight decay of 0 or more, got nan"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov needs a momentum above 0"),
    ],
)
def test_numbers_that_make_no_optimizer_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Optimizer(**{"momentum": 0.9, "weight_decay": 0.0, **changes})

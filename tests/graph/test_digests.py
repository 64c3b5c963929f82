"""Digests of weights: equal for equal weights wherever they are, different after any change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from surgery.graph import weight_digest


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).bfloat16()


def test_equal_weights_have_equal_digests() -> None:
    model = network()
    digest = weight_digest(model)
    assert len(digest) == 64
    assert weight_digest(copy.deepcopy(model)) == digest
    assert weight_digest(model.to(memory_format=torch.channels_last)) == digest
    assert weight_digest(model.train()) == digest


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model[0].weight.data.view(-1)[5].neg_(),
        lambda model: model[1].running_mean.add_(1),
        lambda model: model[1].num_batches_tracked.add_(1),
        lambda model: model.double(),
        lambda model: model.append(nn.Linear(2, 2)),
        lambda model: model[3].register_parameter("bias", None),
        lambda model: setattr(model[3], "weight", nn.Parameter(model[3].weight.reshape(4, 2))),
        lambda model: model[3].weight.data.copy_(model[3].weight.flip(0)),
    ],
)
def test_every_change_gives_another_digest(change) -> None:
    model = network()
    before = weight_digest(model)
    change(model)
    assert weight_digest(model) != before

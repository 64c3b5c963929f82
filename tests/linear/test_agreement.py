from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.errors import InputError
from surgery.linear.agreement import agreement, wilson_interval

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def layer(seed: int, classes: int = 4) -> Tensor:
    return torch.randn(6, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(seed: int, count: int = 50) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centered(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)


@few
@given(seed=seeds, size=st.integers(1, 60), offset=st.sampled_from([0.0, 1e6]))
def test_streaming_equals_all_at_once(seed: int, size: int, offset: float) -> None:
    """An offset of a million would cancel ten digits of plain sums of squares."""
    first, second, images = layer(seed), layer(seed + 1), data(seed + 2)
    shift = offset * torch.arange(4)
    found = agreement(lambda x: x @ first + shift, lambda x: (x @ second).tanh(), images.split(size))
    x, y = centered(images @ first), centered((images @ second).tanh())
    expected = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(x.T, y.T, strict=True)])
    tolerance = 1e-9 if offset else 1e-12
    torch.testing.assert_close(found.class_correlations, expected, rtol=0, atol=tolerance)
    x, y = (x - x.mean(0)).flatten(), (y - y.mean(0)).flatten()
    assert found.correlation == pytest.approx(float(x @ y / (x.norm() * y.norm())), abs=tolerance)
    assert found.images == 50


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e21))
def test_a_network_agrees_with_itself_at_any_scale_and_with_any_shared_logit(seed: int, scale: float) -> None:
    first = layer(seed)
    found = agreement(lambda x: x @ first, lambda x: scale * (x @ first + x[:, :1]), [data(seed)])
    assert found.equal == 50
    assert found.share == 1
    assert found.correlation == pytest.approx(1)
    torch.testing.assert_close(found.class_correlations, torch.ones(4, dtype=torch.float64))


def test_predictions_are_counted() -> None:
    images = torch.eye(4)
    found = agreement(lambda x: x, lambda x: x[:, [0, 1, 3, 2]], [(images, torch.zeros(4)), images[:0]])
    assert (found.equal, found.images, found.share) == (2, 4, 0.5)
    assert found.interval == wilson_interval(2, 4)


def test_constant_logits_have_no_correlation() -> None:
    found = agreement(lambda x: x, lambda x: torch.ones_like(x) * torch.tensor([0.1, 0.7, 0.3]), [torch.randn(40, 3)])
    assert math.isnan(found.correlation)
    assert bool(found.class_correlations.isnan().all())


def test_a_linear_map_stands_for_its_network() -> None:
    @dataclass
    class Map:
        matrix: Tensor
        bias: Tensor

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    graph = surgery.linearize(model, torch.zeros(1, 3, 2, 2)).module
    images = torch.randn(20, 3, 2, 2)
    weight = model[3].weight @ model[1].weight
    mapped = Map(weight.T, model[3].weight @ model[1].bias + model[3].bias)
    found, expected = (agreement(model, linear, images.split(7)) for linear in (mapped, graph))
    assert found.equal == expected.equal
    torch.testing.assert_close(found.class_correlations, expected.class_correlations, rtol=0, atol=1e-5)  # float32


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.277533), (5, 10, 0.236593, 0.763407), (10, 10, 0.722467, 1.0), (81, 263, 0.255259, 0.366232)],
)
def test_wilson_intervals_are_known(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_intervals_of_nothing_are_an_error() -> None:
    for successes, trials in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError, match=f"{successes} of {trials} is not a share"):
            wilson_interval(successes, trials)


@pytest.mark.parametrize(
    ("linear", "message"),
    [
        (lambda x: x[:, :2], "network has 3 classes and the linear sub-network 2"),
        (lambda x: x * torch.inf, "linear sub-network gives logits that are not finite"),
        (lambda x: x.sum(), r"linear sub-network are \(batch, classes\); got \(\)"),
        (nn.Dropout(), "linear sub-network is in training mode"),
    ],
)
def test_networks_that_do_not_fit_are_an_error(linear, message: str) -> None:
    with pytest.raises(InputError, match=message):
        agreement(lambda x: x, linear, [torch.rand(4, 3) + 1])


def test_no_images_and_one_class_are_an_error() -> None:
    with pytest.raises(InputError, match="the batches hold none"):
        agreement(lambda x: x, lambda x: x, [])
    with pytest.raises(InputError, match="at least two classes"):
        agreement(lambda x: x, lambda x: x, [torch.rand(4, 1)])

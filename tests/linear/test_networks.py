"""What the functions of `surgery.linear` accept as a network, and what they say to the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import surgery
from surgery.errors import CertificateError, InputError
from surgery.linear import ClassMeans, agreement, apply_checked, certify, correlate, extract, linearize, spectrum
from surgery.models import open_model

EXAMPLE = torch.zeros(1, 3, 8, 12)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_results_of_linearize_apply_and_open_model_are_networks(model: nn.Module) -> None:
    graph = surgery.trace(model, EXAMPLE)
    plan = surgery.plan(graph, "linearize")
    expected = linearize(graph).module
    opened = open_model(None, architecture="linear")
    assert certify(opened, torch.zeros(1, 3, 32, 32)).affine
    for result in (linearize(model, EXAMPLE), surgery.apply(plan), apply_checked(plan)):
        assert torch.equal(extract(result).weight, extract(expected).weight)
        assert certify(result).affine
        assert linearize(result).certificate.affine


@pytest.mark.parametrize("function", [certify, extract, linearize])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("state.pt", "got the path 'state.pt'\n  hint: surgery.load_model opens a model file"),
        ({"state": 1}, "expected a network (a torch module, or a graph of surgery.trace), got dict"),
        (None, "got NoneType"),
        (nn.ReLU(), "ReLU has to be traced; expected an example input\n  hint: give one as the second"),
    ],
)
def test_anything_else_is_refused_with_what_is_expected(function, given, said) -> None:
    with pytest.raises(InputError) as refused:
        function(given)
    assert said in str(refused.value)


def test_a_plan_is_refused_with_the_function_that_carries_it_out(model: nn.Module) -> None:
    with pytest.raises(InputError, match=r"got Plan\n  hint: surgery.apply\(plan\)"):
        extract(surgery.plan(surgery.trace(model, EXAMPLE), "linearize"))


def test_correlations_of_an_array_and_of_something_else() -> None:
    W = np.random.default_rng(0).normal(size=(20, 4))
    assert torch.equal(correlate(W), correlate(torch.tensor(W)))
    with pytest.raises(InputError, match="expected W as a LinearMap or a tensor"):
        correlate("W.h5")


@pytest.mark.parametrize("factor", [1e9, 1e-9])
def test_weights_of_any_scale_are_certified_within_float64(factor: float) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(20)]
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(factor)
    found = extract(network, torch.zeros(1, 3, 4, 6))
    assert found.weight.dtype == torch.float64
    assert "inf" not in str(found)


@pytest.mark.parametrize(("factor", "signal"), [(1e9, "NaN"), (1e-9, "zero")])
def test_scales_outside_float64_are_not_answered_with_linearize_it_first(factor: float, signal: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(45)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(factor)
    with pytest.raises(CertificateError) as refused:
        extract(nn.Sequential(*layers), torch.zeros(1, 3, 4, 6))
    assert f"the signal is {signal} at" in refused.value.message
    assert "the scales of the layers multiply to a number outside float64" in str(refused.value.hint)


def test_operations_that_are_not_affine_are_answered_with_linearize_it_first(model: nn.Module) -> None:
    with pytest.raises(CertificateError, match="linearize it first"):
        extract(model, EXAMPLE)


def test_images_need_not_be_square(model: nn.Module) -> None:
    found = extract(linearize(model, EXAMPLE))
    images = torch.randn(2, 3, 8, 12)
    assert found.weight.shape == (3, 3, 8, 12)
    torch.testing.assert_close(found(images), linearize(model, EXAMPLE).module(images), rtol=1e-4, atol=1e-5)


def test_results_print_on_one_screen(model: nn.Module) -> None:
    names = tuple(f"class {'with a long name ' * 40}{number}" for number in range(3))
    result = linearize(model, EXAMPLE)
    images, labels = torch.randn(2000, 1000), torch.arange(2000) % 1000
    means = ClassMeans.empty(1000).add(images, labels)
    agreed = agreement(lambda batch: batch, lambda batch: batch.flip(1), [images])
    results = (result, result.certificate, extract(result, class_names=names), apply_checked(result.plan))
    for value in (*results, spectrum(images), agreed, means):
        for text in (repr(value), getattr(value, "_repr_html_", value.__repr__)()):
            assert len(text) < 2000
            assert len(text.splitlines()) < 24

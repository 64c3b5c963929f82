"""Every public function of `surgery.linear` computes the same whatever state of torch its caller has set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn

from surgery.linear import (
    agreement,
    apply_checked,
    certificate_of,
    certify,
    compare,
    correlate,
    extract,
    feature_distance,
    features_at,
    linearize,
    local_map,
    spectrum,
)
from surgery.linear.features import class_means
from surgery.rewrite import plan


@contextmanager
def float64_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": float64_default,
}


def network() -> nn.Module:
    """Pooling and a batch norm: their transposes are differentiated, not written out."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ).eval()


MODEL, EXAMPLE = network(), torch.zeros(1, 3, 8, 8)
IMAGES, LABELS = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2])
LINEAR = linearize(MODEL, EXAMPLE, rules="linearize-keep-bn")
MAP = extract(LINEAR)

FUNCTIONS: dict[str, Callable[[], Tensor | float | None]] = {
    "linearize": lambda: linearize(MODEL, EXAMPLE).certificate.output_scale,
    "apply_checked": lambda: len(apply_checked(plan(LINEAR.before, "linearize")).log),
    "certify": lambda: certify(LINEAR).output_scale,
    "certificate_of": lambda: certificate_of(LINEAR.module).output_scale,
    "compare": lambda: compare(LINEAR.before, LINEAR.module).difference,
    "extract": lambda: extract(LINEAR).weight,
    "extract a module": lambda: extract(MODEL, EXAMPLE, rules="linearize").weight,
    "local_map": lambda: local_map(MODEL, IMAGES[0]).weight,
    "correlate": lambda: correlate(MAP),
    "spectrum": lambda: spectrum(MAP).singular_values,
    "agreement": lambda: agreement(MODEL, MAP, [IMAGES]).class_correlations,
    "features_at": lambda: features_at(LINEAR.before, "0").model_name,
    "feature_distance": lambda: feature_distance(IMAGES, LABELS),
    "class_means": lambda: class_means(MODEL, [(IMAGES, LABELS)], num_classes=3).means,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_callers_state_changes_no_result_and_is_kept(function: str, state: str) -> None:
    expected = FUNCTIONS[function]()
    with STATES[state]():
        before = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()
        found = FUNCTIONS[function]()
        assert (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()) == before
    if isinstance(expected, Tensor):
        assert isinstance(found, Tensor)
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype
    else:
        assert found == expected


def test_a_network_that_was_made_in_inference_mode_is_linearized_and_extracted() -> None:
    with torch.inference_mode():
        made = network()
    assert torch.equal(extract(made, EXAMPLE, rules="linearize-keep-bn").weight, MAP.weight)

"""Losses against what their formulas give by hand, and what holds for all of them."""

import math

import pytest
import torch
from torch.nn import functional

from surgery.attack import LOSSES

LOGITS = torch.tensor([[4.0, 1.0, 3.0, -1.0], [0.0, 2.0, -3.0, 1.0]])
LABELS = torch.tensor([0, 3])
TARGETS = torch.tensor([1, 1])


def test_cross_entropy():
    expected = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(LOSSES["cross-entropy"].untargeted(LOGITS, LABELS), expected)
    toward = LOSSES["cross-entropy"].targeted(LOGITS, LABELS, TARGETS)
    torch.testing.assert_close(toward, -functional.cross_entropy(LOGITS, TARGETS, reduction="none"))


def test_the_margin_is_the_best_other_class_less_the_label():
    assert LOSSES["margin"].untargeted(LOGITS, LABELS).tolist() == [3.0 - 4.0, 2.0 - 1.0]
    assert LOSSES["margin"].targeted(LOGITS, LABELS, TARGETS).tolist() == [1.0 - 4.0, 2.0 - 1.0]


def test_dlr_divides_by_the_spread_of_the_largest():
    assert LOSSES["dlr"].untargeted(LOGITS, LABELS).tolist() == pytest.approx([-1.0 / 3.0, 1.0 / 2.0])
    expected = [(1.0 - 4.0) / (4.0 - 0.0), (2.0 - 1.0) / (2.0 + 1.5)]
    assert LOSSES["dlr"].targeted(LOGITS, LABELS, TARGETS).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_the_loss_is_positive_exactly_where_the_label_is_not_predicted(name):
    logits = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 6
    assert torch.equal(LOSSES[name].untargeted(logits, labels) > 0, logits.argmax(1) != labels)


def test_dlr_does_not_change_with_the_scale_of_the_logits():
    for scale in (1e-3, 1.0, 1e3):
        found = LOSSES["dlr"].untargeted(scale * LOGITS, LABELS)
        torch.testing.assert_close(found, LOSSES["dlr"].untargeted(LOGITS, LABELS))


@pytest.mark.parametrize("name", LOSSES)
def test_equal_logits_give_finite_losses_and_gradients(name):
    logits = torch.zeros(2, 5, requires_grad=True)
    loss = LOSSES[name].untargeted(logits, torch.tensor([0, 1]))
    [gradient] = torch.autograd.grad(loss.sum(), logits)
    assert math.isfinite(float(loss.sum().detach()))
    assert bool(gradient.isfinite().all())

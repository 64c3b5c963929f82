import dataclasses
import math

import pytest
import torch

from surgery.errors import InputError
from surgery.hierarchy import Hierarchy, named
from surgery.train import ClusterPenalty

PAIRS = Hierarchy.of_labels([0, 1, 0, 1, 2], class_names=tuple("abcde"), method="test")
FORMS = ("norm", "mse")


def penalty(form, weight=1.0, hierarchy=PAIRS):
    return ClusterPenalty(hierarchy=hierarchy, weight=weight, form=form)


def logits(batch=6, seed=0):
    return torch.randn(batch, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loop(values, form, *, groups=PAIRS.groups, detach=False):
    """Equation 10 class by class, as the published code computes its own form."""
    total = 0.0
    for group in groups:
        mean = values[:, list(group)].mean(1)
        mean = mean.detach() if detach else mean
        for label in group if len(group) > 1 else ():
            squares = ((values[:, label] - mean) ** 2).mean()
            total += squares.sqrt() if form == "norm" else squares
    return total


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_sum_over_classes_of_equation_10(form):
    values = logits()
    assert torch.allclose(penalty(form, 0.3)(values), 0.3 * by_loop(values, form), rtol=1e-12)


def test_the_norm_form_is_the_norm_over_the_batch_divided_by_the_root_of_its_size():
    values = logits()
    lengths = [(values[:, [0, 2]] - values[:, [0, 2]].mean(1, keepdim=True)).norm(dim=0).sum()]
    lengths += [(values[:, [1, 3]] - values[:, [1, 3]].mean(1, keepdim=True)).norm(dim=0).sum()]
    assert torch.allclose(penalty("norm")(values), sum(lengths) / math.sqrt(len(values)), rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_it_does_not_grow_with_the_batch(form):
    values = logits()
    assert torch.allclose(penalty(form)(values.repeat(4, 1)), penalty(form)(values), rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_zero_only_where_the_logits_of_every_superclass_are_equal(form):
    equal = logits()[:, :3][:, list(PAIRS.superclass)]
    assert penalty(form)(equal) < 1e-7
    apart = equal.clone()
    apart[2, 3] += 1.0
    assert penalty(form)(apart) > 0.01
    alone = equal.clone()
    alone[:, 4] += 5.0  # the only class of its superclass
    assert penalty(form)(alone) < 1e-7


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_finite_at_zero_distance(form, dtype):
    values = torch.ones(3, 5, dtype=dtype, requires_grad=True)
    [gradient] = torch.autograd.grad(penalty(form)(values), values)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form):
    values = logits().requires_grad_()
    assert torch.autograd.gradcheck(penalty(form, 0.7), (values,))


def test_detaching_the_mean_changes_the_norm_form_only():
    three = Hierarchy.of_labels([0, 0, 0, 1, 1], class_names=PAIRS.class_names, method="test")
    for form, same in (("mse", True), ("norm", False)):
        values = logits().requires_grad_()
        [whole] = torch.autograd.grad(by_loop(values, form, groups=three.groups), values)
        [detached] = torch.autograd.grad(by_loop(values, form, groups=three.groups, detach=True), values)
        [ours] = torch.autograd.grad(penalty(form, hierarchy=three)(values), values)
        assert torch.allclose(ours, whole, rtol=1e-9)
        assert torch.allclose(ours, detached, rtol=1e-3) == same


def test_the_mean_over_the_batch_can_span_more_than_this_batch():
    values = logits(batch=6)
    whole = penalty("norm")(values)
    first, second = values[:4], values[4:]
    elsewhere = (second[:, list(range(5))] @ _distances()).square().sum(0)
    part = penalty("norm")(first, mean=lambda squares: (squares.sum(0) + elsewhere) / 6)
    assert torch.allclose(part, whole, rtol=1e-12)
    assert not torch.allclose((4 * penalty("norm")(first) + 2 * penalty("norm")(second)) / 6, whole, rtol=1e-3)


def _distances():
    same = torch.tensor(PAIRS.superclass)[:, None] == torch.tensor(PAIRS.superclass)[None, :]
    return torch.eye(5, dtype=torch.float64) - same.double() / same.double().sum(1)


def test_a_hierarchy_that_misses_a_class_is_named():
    with pytest.raises(InputError, match=r"class 5 is in no superclass: the hierarchy has 5 classes.* 6 outputs"):
        penalty("norm")(torch.zeros(2, 6))
    with pytest.raises(InputError, match="class 'e' of the hierarchy has no output"):
        penalty("norm")(torch.zeros(2, 4))
    with pytest.raises(InputError, match="no class 'f'"):
        penalty("norm").for_classes(("a", "b", "c", "d", "f"))


def test_classes_are_brought_into_the_order_of_the_data():
    cifar = penalty("norm", hierarchy=named("cifar10"))
    assert cifar.for_classes(("dog", "ship", "cat")).hierarchy.superclass == (0, 1, 0)
    numbered = penalty("norm", hierarchy=Hierarchy.of_labels([0, 0, 1], method="test"))
    assert numbered.for_classes(("x", "y", "z")) == numbered
    with pytest.raises(InputError, match="class 3 \\('w'\\) is in no superclass"):
        numbered.for_classes(("x", "y", "z", "w"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "mes"}, "'mes' is no form(.|\n)*did you mean 'mse'"),
        ({"weight": -0.1}, "-0.1"),
        ({"weight": math.nan}, "nan"),
    ],
)
def test_settings_that_make_no_penalty_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(penalty("norm"), **changes)

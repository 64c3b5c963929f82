import warnings

import pytest
import torch

from surgery.errors import InputError
from surgery.train import Constant, Cosine, MultiStep, OneCycle

EPOCHS, BATCHES = 10, 7


def ours(schedule):
    return [schedule.at(step, batches=BATCHES, epochs=EPOCHS) for step in range(EPOCHS * BATCHES)]


def theirs(make, *, each_epoch=False):
    """The learning rates of a scheduler of torch, stepped after every batch or after every epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = make(optimizer)
    rates = []
    for step in range(EPOCHS * BATCHES):
        rates.append(optimizer.param_groups[0]["lr"])
        if not each_epoch or (step + 1) % BATCHES == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of stepping without a step of the optimizer
                scheduler.step()
    return rates


def test_multi_step_is_that_of_torch():
    expected = theirs(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 8], gamma=0.1), each_epoch=True)
    assert ours(MultiStep(learning_rate=0.1, milestones=[3, 8], factor=0.1)) == pytest.approx(expected, rel=1e-12)


def test_cosine_is_that_of_torch():
    expected = theirs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, EPOCHS * BATCHES, eta_min=1e-3))
    assert ours(Cosine(learning_rate=0.1, final=1e-3)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("shape", "strategy"), [("cosine", "cos"), ("linear", "linear")])
@pytest.mark.parametrize("warmup", [0.3, 0.45])
def test_one_cycle_is_that_of_torch(shape, strategy, warmup):
    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            0.2,
            total_steps=EPOCHS * BATCHES,
            pct_start=warmup,
            anneal_strategy=strategy,
            cycle_momentum=False,
        )

    assert ours(OneCycle(learning_rate=0.2, warmup=warmup, shape=shape)) == pytest.approx(theirs(make), rel=1e-9)


def test_constant_stays():
    assert set(ours(Constant(learning_rate=0.05))) == {0.05}


def test_one_cycle_is_defined_for_the_shortest_runs():
    for batches in (1, 2, 3, 4):
        rates = [OneCycle(learning_rate=1.0, warmup=0.25).at(i, batches=batches, epochs=1) for i in range(batches)]
        assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(learning_rate=0.0), "expected a learning rate above 0, got 0.0"),
        (lambda: MultiStep(learning_rate=0.1, milestones=[90, 75], factor=0.1), r"\[90, 75\]"),
        (lambda: MultiStep(learning_rate=0.1, milestones=[0], factor=0.1), r"\[0\]"),
        (lambda: MultiStep(learning_rate=0.1, milestones=[5], factor=-1), "expected a factor above 0, got -1"),
        (lambda: OneCycle(learning_rate=0.1, warmup=1.0), "between 0 and 1"),
        (lambda: OneCycle(learning_rate=0.1, shape="triangle"), "'triangle'"),
    ],
)
def test_numbers_that_make_no_schedule_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

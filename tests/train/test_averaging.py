import dataclasses

import pytest
import torch
from torch import nn

from surgery.data import images_as_float
from surgery.errors import InputError
from surgery.train import Engine, ExponentialAverage, Objective, StochasticAverage, fit
from surgery.train.averaging import absorb
from surgery.train.processes import ALONE
from surgery.train.step import Stepper
from surgery.train.trainer import Trainer

ENGINE = Engine(precision="float32", fold=False, channels_last=False)


def weights_along_the_way(network, data, config, monkeypatch):
    """The weights of an output after every step."""
    seen = []
    step = Stepper.step

    def recording(self, batch, **options):
        row = step(self, batch, **options)
        seen.append(self.network[6].weight.detach().clone())
        return row

    monkeypatch.setattr(Stepper, "step", recording)
    result = fit(network, data, config, engine=ENGINE)
    monkeypatch.undo()
    return seen, result


def test_the_exponential_average_is_what_is_evaluated_and_kept(network, data, config, monkeypatch):
    config = dataclasses.replace(config, averaging=ExponentialAverage(decay=0.7, start=2))
    seen, result = weights_along_the_way(network, data, config, monkeypatch)
    expected = seen[5]
    for weight in seen[6:]:
        expected = 0.7 * expected + 0.3 * weight
    assert torch.allclose(result.model[6].weight, expected, rtol=1e-5, atol=1e-7)
    assert int(result.model[1].num_batches_tracked) == 10


def test_averaging_changes_nothing_of_the_training(network, data, config, monkeypatch):
    without, _ = weights_along_the_way(network, data, config, monkeypatch)
    averaged = dataclasses.replace(config, averaging=ExponentialAverage(decay=0.7))
    seen, _ = weights_along_the_way(network, data, averaged, monkeypatch)
    assert all(torch.equal(first, second) for first, second in zip(without, seen, strict=True))


def test_the_stochastic_average_is_the_mean_over_epochs(network, data, config, monkeypatch):
    config = dataclasses.replace(config, epochs=4, averaging=StochasticAverage(start=2, batches=3))
    seen, result = weights_along_the_way(network, data, config, monkeypatch)
    expected = torch.stack(seen[9::5]).mean(0)
    assert torch.allclose(result.model[6].weight, expected, rtol=1e-5, atol=1e-7)


def test_statistics_of_the_stochastic_average_are_those_of_training_images(network, data, config):
    objective = Objective(kind="standard")
    averaging = StochasticAverage(start=1, batches=100)
    config = dataclasses.replace(config, objective=objective, averaging=averaging, batch_size=24, evaluate_every=0)
    model = fit(network, data, config, engine=ENGINE).model
    # All images in equal batches: the mean over them is that of a forward of all.
    inner = model[0](images_as_float(data.train.images))
    assert torch.allclose(model[1].running_mean, inner.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    assert model[1].momentum == 0.1


@pytest.mark.parametrize("kind", ["pgd", "trades"])
def test_statistics_of_a_robust_average_are_those_of_attacked_images(network, data, config, kind):
    objective = Objective(kind=kind, attack=config.objective.attack, beta=1.0 if kind == "trades" else None)
    config = dataclasses.replace(config, objective=objective)
    averaging = StochasticAverage(start=1, batches=2)
    trainer = Trainer(network, data, dataclasses.replace(config, averaging=averaging), engine=ENGINE, processes=ALONE)
    trainer.taken = 1
    trainer._recompute_statistics()
    average = trainer.average
    batches = [trainer.batches.draw(0, number, trainer.batches.order(0)) for number in range(2)]
    shown = [trainer.stepper.attacked(batch) for batch in batches]
    shown += [batch.images for batch in batches] if kind == "trades" else []
    expected = network[0](torch.cat(shown)).mean((0, 2, 3))
    assert torch.allclose(average[1].running_mean, expected, rtol=1e-4, atol=1e-6)
    clean = network[0](torch.cat([batch.images for batch in batches])).mean((0, 2, 3))
    assert not torch.allclose(expected, clean, rtol=1e-4, atol=1e-6)
    assert not average.training


def test_absorbing_moves_weights_and_copies_counts():
    average, network = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    network.weight.data.fill_(3.0)
    network.num_batches_tracked.fill_(7)
    absorb(average, network, ExponentialAverage(decay=0.75), taken=1)
    assert average.weight.tolist() == [1.5, 1.5]
    assert int(average.num_batches_tracked) == 7
    absorb(average, network, ExponentialAverage(decay=0.75), taken=0)
    assert torch.equal(average.weight, network.weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialAverage(decay=1.0), "a decay of the average between 0 and 1, got 1.0"),
        (lambda: StochasticAverage(start=0, batches=3), "epoch 0"),
        (lambda: StochasticAverage(start=1, batches=-1), "-1 batches"),
    ],
)
def test_what_makes_no_average_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

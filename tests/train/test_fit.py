import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from surgery.attack import PLAIN as PLAIN_SEARCH
from surgery.attack import evaluate, pgd
from surgery.data import Augmentation, Split, images_as_float
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy
from surgery.train import (
    ClusterPenalty,
    Constant,
    DivergedError,
    Engine,
    Objective,
    OneCycle,
    WeightPerturbation,
    fit,
)
from surgery.train.engine import find_device


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_nothing_of_the_caller_changes(network, data, config):
    network.train()
    network[0].weight.requires_grad_(False)
    state = copy.deepcopy(network.state_dict())
    random = torch.random.get_rng_state()
    result = fit(network, data, config)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(module.training for module in network.modules())
    assert [p.requires_grad for p in network.parameters()] == [False, True, True, True, True]
    assert all(p.grad is None for p in network.parameters())
    assert same(network.state_dict(), state)
    assert torch.equal(result.model[0].weight, state["0.weight"])  # what has no gradient is not trained
    assert not torch.equal(result.model[6].weight, state["6.weight"])
    assert not result.model.training


def test_the_seed_decides_everything(network, data, config):
    config = dataclasses.replace(config, augmentation=Augmentation(padding=1, flip=True))
    first = fit(network, data, config)
    torch.manual_seed(99)
    again = fit(network, data, config)
    other = fit(network, data, dataclasses.replace(config, seed=4))
    assert same(first.model.state_dict(), again.model.state_dict())
    assert first.history == again.history
    assert not same(first.model.state_dict(), other.model.state_dict())


def test_training_learns(network, data, config):
    config = dataclasses.replace(config, epochs=8)
    result = fit(network, data, config)
    assert result.history[-1].loss < 0.5 * result.history[0].loss
    assert result.history[-1].natural > 0.9
    assert result.history[-1].robust > 0.9
    assert evaluate(result.model, data, {"pgd": config.selection})["pgd"].accuracy > 0.9


def test_history_has_what_was_measured(network, data, config):
    penalty = ClusterPenalty(hierarchy=data.hierarchy, weight=0.1, form="norm")
    objective = dataclasses.replace(config.objective, kind="trades", beta=2.0, cluster=penalty)
    schedule = OneCycle(learning_rate=0.05)
    result = fit(network, data, dataclasses.replace(config, objective=objective, schedule=schedule, evaluate_every=2))
    first, last = result.history
    assert [record.epoch for record in result.history] == [1, 2]
    assert first.parts.keys() == {"cross-entropy", "consistency", "cluster"}
    assert first.loss == pytest.approx(sum(first.parts.values()), rel=1e-6)
    assert (first.natural, first.robust) == (None, None)
    assert 0 <= last.robust <= last.natural <= 1
    assert 0 <= first.train_robust <= 1
    assert 0 <= first.train_natural <= 1
    assert last.learning_rate == schedule.at(9, batches=5, epochs=2)
    assert first.seconds > 0


def test_the_last_epoch_is_what_an_evaluation_of_the_result_gives(network, data, config):
    result = fit(network, data, config, engine=Engine(precision="float32", fold=False, channels_last=False))
    found = evaluate(result.model, data.validation, {"attack": config.selection}, seed=config.seed, engine=PLAIN_SEARCH)
    assert result.history[-1].natural == found["natural"].accuracy
    assert result.history[-1].robust == found["attack"].accuracy


@pytest.mark.filterwarnings("ignore::surgery.attack.EvaluationWarning")  # gradients are zero where all is learnt
def test_best_is_the_epoch_with_the_highest_robust_accuracy(network, data, config):
    # A learning rate at which accuracies go up and down.
    config = dataclasses.replace(config, epochs=6, schedule=Constant(learning_rate=0.3))
    result = fit(network, data, config)
    scores = [record.robust for record in result.history]
    assert result.best_epoch == scores.index(max(scores)) + 1
    assert result.selected_on == "validation"
    search = {"attack": config.selection}
    assert evaluate(result.best_model, data.validation, search, seed=config.seed)["attack"].accuracy == max(scores)
    assert not same(result.best, result.model.state_dict()) or result.best_epoch == 6


def test_selecting_on_the_test_set_is_done_when_asked_for_and_recorded(network, data, config):
    result = fit(network, data, dataclasses.replace(config, select_on="test", epochs=1))
    assert result.selected_on == "test"
    found = evaluate(result.model, data.test, {"attack": config.selection}, seed=config.seed)
    assert result.history[-1].robust == found["attack"].accuracy


def test_without_evaluations_the_last_epoch_is_kept(network, data, config):
    result = fit(network, data, dataclasses.replace(config, evaluate_every=0))
    assert result.selected_on is None
    assert result.best_epoch == 2
    assert same(result.best, result.model.state_dict())
    assert result.history[-1].robust is None


def test_without_an_attack_the_best_epoch_is_the_most_accurate(network, data, config):
    result = fit(network, data, dataclasses.replace(config, objective=Objective(kind="standard"), selection=None))
    assert result.history[-1].robust is None
    assert result.history[result.best_epoch - 1].natural == max(record.natural for record in result.history)


def test_progress_comes_after_every_batch_and_epoch(network, data, config):
    seen = []
    result = fit(network, data, config, progress=seen.append)
    batches = [(p.epoch, p.batch) for p in seen if p.record is None and p.evaluated is None]
    assert batches == [(epoch, batch) for epoch in (1, 2) for batch in range(1, 6)]
    assert [p.record for p in seen if p.record] == list(result.history)
    assert all(p.epochs == 2 and p.batches == 5 and math.isfinite(p.loss) for p in seen)
    assert seen[-1].seconds_left == 0
    assert seen[0].seconds_left > 0
    for epoch in (1, 2):
        shares = [p.evaluated for p in seen if p.epoch == epoch and p.evaluated is not None]
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_a_single_image_left_over_is_left_out(network, data, config):
    odd = dataclasses.replace(data, train=data.train.subset(slice(0, 65)))
    seen = []
    fit(network, odd, dataclasses.replace(config, epochs=1), progress=seen.append)
    assert seen[0].batches == 4


@pytest.mark.parametrize("kind", ["standard", "pgd", "trades", "mart"])
def test_every_objective_trains_with_everything_on(network, data, config, kind):
    objective = Objective(
        kind=kind,
        attack=None if kind == "standard" else config.objective.attack,
        beta=3.0 if kind in ("trades", "mart") else None,
        perturbation=WeightPerturbation(gamma=0.01, start=2),
        cluster=ClusterPenalty(hierarchy=data.hierarchy, weight=0.01, form="mse"),
    )
    result = fit(network, data, dataclasses.replace(config, objective=objective, epochs=3))
    assert result.history[-1].loss < result.history[0].loss


def test_the_penalty_draws_siblings_together(network, data, config):
    def apart(model):
        with torch.no_grad():
            pairs = model(images_as_float(data.test.images)).unflatten(1, (2, 2))
        return float((pairs[:, :, 0] - pairs[:, :, 1]).square().mean())

    penalty = ClusterPenalty(hierarchy=data.hierarchy, weight=0.1, form="mse")
    config = dataclasses.replace(config, epochs=6, schedule=Constant(learning_rate=0.01), evaluate_every=0)
    clustered = dataclasses.replace(config, objective=dataclasses.replace(config.objective, cluster=penalty))
    assert apart(fit(network, data, clustered).model) < 0.5 * apart(fit(network, data, config).model)


def test_precisions_agree(network, data, config):
    """bfloat16 has eight bits, and small gradients change sign: the runs are alike, not the same."""
    config = dataclasses.replace(config, epochs=6)
    engines = Engine(precision="bfloat16"), Engine(precision="float32", fold=False, channels_last=False)
    quick, plain = (fit(network, data, config, engine=engine) for engine in engines)
    assert quick.history[-1].loss == pytest.approx(plain.history[-1].loss, abs=0.1)
    assert "bfloat16 autocast, channels last" in quick.notes[0]
    assert quick.notes[1] == "attacks with batch norm folded"
    assert plain.notes == ("cpu: float32",)


def test_a_network_that_cannot_be_compiled_runs_as_written(network, data, config, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: broken)
    result = fit(network, data, config, engine=Engine(precision="float32", fold=False, compile=True))
    assert "not compiled: RuntimeError: no compiler" in result.notes
    expected = fit(network, data, config, engine=Engine(precision="float32", fold=False, compile=False))
    assert same(result.model.state_dict(), expected.model.state_dict())


def test_whole_batches_are_compiled_and_others_run_as_written(network, data, config, monkeypatch):
    sizes = []

    def recording(module, **options):
        def run(images):
            sizes.append(len(images))
            return module(images)

        return run

    monkeypatch.setattr(torch, "compile", recording)
    engine = Engine(precision="float32", compile=True)
    result = fit(network, data, config, engine=engine)
    assert set(sizes) == {config.batch_size}
    expected = fit(network, data, config, engine=dataclasses.replace(engine, compile=False))
    assert same(result.model.state_dict(), expected.model.state_dict())


def test_a_network_in_double_precision_is_trained_in_it(network, data, config):
    result = fit(network.double(), data, config, engine=Engine(precision="float32"))
    assert result.model[0].weight.dtype == torch.float64


def test_a_loss_that_is_no_number_stops_with_the_place(network, data, config):
    explosive = dataclasses.replace(config, schedule=Jump(), epochs=3)
    message = r"epoch 2, batch [2-5] of 5: the loss is (nan|inf)(.|\n)*learning rate"
    with pytest.raises(DivergedError, match=message) as raised:
        fit(network, data, explosive)
    assert [record.epoch for record in raised.value.history] == [1]


@dataclasses.dataclass(frozen=True)
class Jump:
    """A schedule with an accident in the second epoch."""

    def at(self, step, *, batches, epochs):
        return 1e30 if step >= batches else 0.01


def test_weights_that_are_no_numbers_after_the_last_batch_are_noticed(network, data, config):
    @dataclasses.dataclass(frozen=True)
    class Last:
        def at(self, step, *, batches, epochs):
            return float("inf") if step == batches - 1 else 0.01

    with pytest.raises(DivergedError, match="epoch 1, after its last batch: the weights are not finite"):
        fit(network, data, dataclasses.replace(config, schedule=Last()))


def probabilities(network):
    return nn.Sequential(network, nn.Softmax(1))


def test_probabilities_are_noticed_before_the_first_batch(network, data, config):
    seen = []
    result = fit(probabilities(network), data, dataclasses.replace(config, epochs=1), progress=seen.append)
    assert [notice.kind for notice in result.notices] == ["probabilities"]
    assert seen[0].notice is result.notices[0]
    assert (seen[0].epoch, seen[0].batch) == (1, 0)


BAD = {
    "outputs": (lambda n, d, p: (n[:-1].append(nn.Linear(128, 5)), d, p), "has 5 outputs, places has 4 classes"),
    "shape": (lambda n, d, p: (nn.Sequential(nn.Linear(7, 4)), d, p), r"does not take images of shape \(3, 8, 8\)"),
    "features": (lambda n, d, p: (n[:4], d, p), r"expected logits of shape \(batch, 4\), got \(8, 8, 4, 4\)"),
    "frozen": (lambda n, d, p: (n.requires_grad_(False), d, p), "no parameter that can be trained"),
    "batch": (lambda n, d, p: (n, d, dataclasses.replace(p, batch_size=73)), "batches of 73 images, but places has 72"),
    "hierarchy": (
        lambda n, d, p: (
            n,
            d,
            dataclasses.replace(
                p,
                objective=Objective(
                    kind="standard",
                    cluster=ClusterPenalty(
                        hierarchy=Hierarchy.of_labels([0, 0, 1], class_names=("a", "b", "c"), method="test"),
                        weight=1.0,
                        form="norm",
                    ),
                ),
            ),
        ),
        "the hierarchy has no class 'd'",
    ),
    "validation": (
        lambda n, d, p: (
            n,
            dataclasses.replace(d, validation=Split(images=d.test.images[:0], labels=d.test.labels[:0])),
            p,
        ),
        "no validation images(.|\n)*evaluate_every = 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_together_is_named(network, data, config, name):
    change, message = BAD[name]
    with pytest.raises(InputError, match=message):
        fit(*change(network, data, config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected a whole number of 1 or more, got 0"),
        ({"batch_size": 1.5}, "batch_size: expected .* got 1.5"),
        ({"select_on": "train"}, "select_on: expected .* got 'train'"),
        ({"seed": -1}, "seed: expected .* got -1"),
    ],
)
def test_numbers_that_make_no_configuration_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes)


def test_the_digest_of_a_configuration_is_that_of_every_field(config):
    others = [
        dataclasses.replace(config, seed=5),
        dataclasses.replace(config, schedule=OneCycle(learning_rate=0.05)),
        dataclasses.replace(config, selection=pgd(epsilon="8/255", steps=3, step_size="6/255")),
        dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, nesterov=True)),
    ]
    assert len({config.digest, *(other.digest for other in others)}) == 5
    assert dataclasses.replace(config).digest == config.digest


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="the device cuda:99 cannot be used"):
        find_device("cuda:99")


def test_the_result_is_printed_on_one_screen(network, data, config):
    trained = fit(network, data, config)
    lines = repr(trained).splitlines()
    assert lines[0] == "Trained Sequential: 2 epochs, selected on validation"
    assert [line.split(":")[0] for line in lines[1:3]] == ["  last epoch 2", f"  best epoch {trained.best_epoch}"]
    assert len(lines) <= 8
    assert max(map(len, lines)) <= 120

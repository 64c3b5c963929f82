import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from surgery.attack import pgd, random_start
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy
from surgery.train import PLAIN, ClusterPenalty, Engine, Objective, Optimizer, WeightPerturbation
from surgery.train.awp import perturbed
from surgery.train.batches import Batch
from surgery.train.objective import boosted_cross_entropy, divergence, misclassification_aware
from surgery.train.processes import ALONE
from surgery.train.step import Adversary, Stepper, evaluating_view

SGD = Optimizer(momentum=0.0, weight_decay=0.0)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def test_divergence_is_the_sum_over_classes():
    clean, adversarial = draw(6, 4), draw(6, 4, seed=1)
    p, q = clean.softmax(1), adversarial.softmax(1)
    assert torch.allclose(divergence(adversarial, clean), (p * (p / q).log()).sum(1))
    assert divergence(clean, clean).abs().max() < 1e-15


def test_boosted_cross_entropy_is_that_of_the_paper():
    logits = draw(6, 4)
    p = logits.softmax(1)
    rival = p.scatter(1, LABELS[:, None], 0.0).amax(1)
    expected = -p.gather(1, LABELS[:, None]).squeeze(1).log() - (1 - rival).log()
    assert torch.allclose(boosted_cross_entropy(logits, LABELS), expected)


def test_boosted_cross_entropy_stays_finite_where_the_rival_is_certain():
    logits = torch.tensor([[0.0, 200.0, 0.0, 0.0]], requires_grad=True)
    loss = boosted_cross_entropy(logits, torch.tensor([0]))
    [gradient] = torch.autograd.grad(loss.sum(), logits)
    assert bool(loss.isfinite().all())
    assert bool(gradient.isfinite().all())


def test_mart_weighs_by_how_wrong_the_clean_image_is():
    clean, adversarial = draw(6, 4), draw(6, 4, seed=1)
    wrong = 1 - clean.softmax(1).gather(1, LABELS[:, None]).squeeze(1)
    expected = divergence(adversarial, clean) * wrong
    assert torch.allclose(misclassification_aware(adversarial, clean, LABELS), expected)


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def smooth():
    """A network without dropout, in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
        return nn.Sequential(*layers)


def gradients(network, objective, images, *, engine=PLAIN, perturb=True):
    """What one step without momentum at learning rate 1 subtracts, the row of numbers, and the attacked images."""
    network = copy.deepcopy(network)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    stepper = Stepper(network, images, objective=objective, optimizer=SGD, engine=engine, processes=ALONE)
    start = images
    if objective.attack is not None:
        start = random_start(images, objective.attack, torch.Generator().manual_seed(0))
    batch = Batch(images=images, labels=LABELS, start=start, whole=len(images))
    attacked = stepper.attacked(batch)
    row = stepper.step(batch, rate=1.0, perturb=perturb)
    found = {name: before[name] - p.detach() for name, p in network.named_parameters()}
    return found, dict(zip(stepper.columns, row.tolist(), strict=True)), attacked, network


def expected_gradients(network, loss_of):
    network = copy.deepcopy(network).train()
    loss = loss_of(network)
    found = torch.autograd.grad(loss, list(network.parameters()))
    return dict(zip(dict(network.named_parameters()), found, strict=True)), float(loss.detach())


def close(found, expected):
    """Weights are of order one, so their differences have errors of float32's eps of that."""
    return all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-6) for name in expected)


def test_standard_training_takes_the_gradient_of_cross_entropy(smooth, images):
    found, row, _, _ = gradients(smooth, Objective(kind="standard"), images)
    expected, loss = expected_gradients(smooth, lambda net: functional.cross_entropy(net(images), LABELS))
    assert close(found, expected)
    assert row["loss"] == row["cross-entropy"] == pytest.approx(loss, rel=1e-5)
    assert row["robust"] != row["robust"]  # not measured


def test_adversarial_training_takes_the_gradient_at_the_attacked_images(smooth, images, attack):
    found, row, attacked, _ = gradients(smooth, Objective(kind="pgd", attack=attack), images)
    expected, loss = expected_gradients(smooth, lambda net: functional.cross_entropy(net(attacked), LABELS))
    assert close(found, expected)
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    assert (attacked - images).abs().max() <= attack.epsilon + 1e-6


def test_trades_without_beta_is_standard_training(smooth, images, attack):
    found, row, _, _ = gradients(smooth, Objective(kind="trades", attack=attack, beta=0.0), images)
    expected, _, _, _ = gradients(smooth, Objective(kind="standard"), images)
    assert close(found, expected)
    assert row["consistency"] == 0.0


def test_trades_attacks_the_divergence_and_weighs_it(smooth, images, attack):
    found, row, attacked, _ = gradients(smooth, Objective(kind="trades", attack=attack, beta=6.0), images)

    def loss_of(net):
        clean, adversarial = net(images), net(attacked)
        return functional.cross_entropy(clean, LABELS) + 6.0 * divergence(adversarial, clean).mean()

    expected, loss = expected_gradients(smooth, loss_of)
    assert close(found, expected)
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    with torch.no_grad():
        net = copy.deepcopy(smooth).eval()
        start = random_start(images, attack, torch.Generator().manual_seed(0))
        assert divergence(net(attacked), net(images)).mean() > divergence(net(start), net(images)).mean()


def test_mart_is_the_sum_of_its_terms(smooth, images, attack):
    found, row, attacked, _ = gradients(smooth, Objective(kind="mart", attack=attack, beta=5.0), images)

    def loss_of(net):
        clean, adversarial = net(images), net(attacked)
        consistency = misclassification_aware(adversarial, clean, LABELS).mean()
        return boosted_cross_entropy(adversarial, LABELS).mean() + 5.0 * consistency

    expected, loss = expected_gradients(smooth, loss_of)
    assert close(found, expected)
    assert row["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("form", ["norm", "mse"])
@pytest.mark.parametrize("kind", ["standard", "pgd", "trades", "mart"])
def test_the_penalty_adds_to_every_objective_on_the_logits_that_it_trains_on(smooth, images, attack, kind, form):
    hierarchy = Hierarchy.of_labels([0, 0, 1, 1], method="test")
    penalty = ClusterPenalty(hierarchy=hierarchy, weight=0.5, form=form)
    robust = {"attack": attack} if kind != "standard" else {}
    plain = Objective(kind=kind, beta=2.0 if kind in ("trades", "mart") else None, **robust)
    without, row, attacked, _ = gradients(smooth, plain, images)
    found, with_penalty, _, _ = gradients(smooth, dataclasses.replace(plain, cluster=penalty), images)
    shown = images if kind == "standard" else attacked
    added, value = expected_gradients(smooth, lambda net: penalty(net(shown)))
    assert close({name: found[name] - without[name] for name in found}, added)
    assert with_penalty["cluster"] == pytest.approx(value, rel=1e-4)
    assert with_penalty["loss"] == pytest.approx(row["loss"] + value, rel=1e-5)


def test_weight_perturbation_takes_the_gradient_where_the_weights_are_worse(smooth, images, attack):
    robust = Objective(kind="pgd", attack=attack)
    moved = dataclasses.replace(robust, perturbation=WeightPerturbation(gamma=0.05))
    found, row, attacked, network = gradients(smooth, moved, images)
    plain, before, _, other = gradients(smooth, robust, images)
    with torch.no_grad():
        worse = copy.deepcopy(smooth)
        for name, p in worse.named_parameters():
            if p.dim() > 1:
                p.add_(0.05 * p.norm() * plain[name] / plain[name].norm())
    expected, loss = expected_gradients(worse, lambda net: functional.cross_entropy(net(attacked), LABELS))
    assert close(found, expected)
    assert row["loss"] == pytest.approx(loss, rel=1e-4)
    assert row["loss"] > before["loss"]
    # One forward in training mode has left its trace in the statistics, not two: that of the ascent leaves none.
    assert int(network[1].num_batches_tracked) == int(other[1].num_batches_tracked) == 1


def test_before_its_first_epoch_the_perturbation_is_off(smooth, images, attack):
    robust = Objective(kind="pgd", attack=attack)
    moved = dataclasses.replace(robust, perturbation=WeightPerturbation(gamma=0.05, start=2))
    off, _, _, _ = gradients(smooth, moved, images, perturb=False)
    plain, _, _, _ = gradients(smooth, robust, images)
    assert all(torch.equal(off[name], plain[name]) for name in plain)


def test_perturbed_weights_come_back_to_the_bit():
    weights = [draw(4, 3).float(), draw(2, 2, seed=1).float()]
    before = [weight.clone() for weight in weights]
    with perturbed(weights, [draw(4, 3, seed=2).float(), torch.zeros(2, 2)], 0.1):
        assert float((weights[0] - before[0]).norm() / before[0].norm()) == pytest.approx(0.1, rel=1e-5)
        assert torch.equal(weights[1], before[1])  # a gradient of zero has no direction
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


@pytest.mark.parametrize("engine", [PLAIN, Engine(precision="float32", compile=False)], ids=["plain", "folded"])
def test_the_attack_leaves_no_gradient_and_no_statistics_behind(smooth, images, attack, engine):
    smooth.train()
    state = copy.deepcopy(smooth.state_dict())
    adversary = Adversary(evaluating_view(smooth), images, Objective(kind="pgd", attack=attack), engine)
    adversary(images, LABELS, images)
    assert all(p.grad is None and p.requires_grad for p in smooth.parameters())
    assert all(module.training for module in smooth.modules())
    assert all(torch.equal(value, state[name]) for name, value in smooth.state_dict().items())


def test_the_attack_sees_the_weights_as_they_are(smooth, images, attack):
    objective = Objective(kind="pgd", attack=attack)
    adversary = Adversary(evaluating_view(smooth), images, objective, PLAIN)
    folded = Adversary(evaluating_view(smooth), images, objective, Engine(precision="float32", compile=False))
    assert folded.notes == ["attacks with batch norm folded"]
    with torch.no_grad():
        for p in smooth.parameters():
            p.mul_(1.5).add_(0.1)
        smooth[1].running_mean.add_(0.3)
        smooth[1].running_var.mul_(2.0)
        folded.folded.refresh()
        expected = copy.deepcopy(smooth).eval()(images)
        assert torch.allclose(adversary.run(images), expected)
        assert torch.allclose(folded.run(images), expected, rtol=1e-4, atol=1e-4)


WRONG = {
    "an unknown kind": ({"kind": "trade"}, "unknown objective 'trade'(.|\n)*did you mean 'trades'"),
    "an attack for standard training": ({"kind": "standard"}, "standard training has no attack"),
    "no attack": ({"attack": None}, "'pgd' needs an attack"),
    "no beta": ({"kind": "trades"}, "'trades' needs beta"),
    "a beta too many": ({"beta": 1.0}, "'pgd' has no beta"),
    "a negative beta": ({"kind": "mart", "beta": -1.0}, "a beta of 0 or more, got -1.0"),
    "a start without a gradient": (
        {"kind": "trades", "beta": 1.0, "attack": pgd(epsilon=0.1, steps=1, step_size=0.1, start="zero")},
        "no gradient at the image itself",
    ),
    "restarts": (
        {"attack": pgd(epsilon=0.1, steps=1, step_size=0.1, restarts=2)},
        "untargeted attack without restarts",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_objective_is_refused(name, attack):
    changes, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        Objective(**{"kind": "pgd", "attack": attack, **changes})


@pytest.mark.parametrize(("changes", "message"), [({"gamma": 0.0}, "0.0"), ({"gamma": 0.1, "start": 0}, "epoch 0")])
def test_what_makes_no_perturbation_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        WeightPerturbation(**changes)

"""Evaluations: which images count as robust, on what results do not depend, and which state is kept."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from surgery.attack import NORMS, PLAIN, Engine, cw, evaluate, fgsm, mcnemar, perturb, pgd, random_start, search
from surgery.attack.outcomes import wilson
from surgery.attack.random_start import ImageGenerator, image_keys
from surgery.data import Split, planted
from surgery.errors import InputError

PGD = pgd(epsilon="2/255", steps=6, step_size="0.5/255")
FLOAT = Engine(precision="float32")


def predictions(model, images):
    with torch.no_grad():
        return model(images).argmax(1)


def iterates(model, images, labels, attack, *, seed=0):
    """The start and every iterate of one search, with nothing clever about it."""
    start = random_start(images, attack, ImageGenerator(image_keys(images), seed=seed).stream(0))
    seen = []

    def objective(x):
        seen.append(x.detach())
        return nn.functional.cross_entropy(model(x), labels, reduction="none")

    seen.append(search(objective, images, attack, start=start))
    return seen


@pytest.fixture(scope="module")
def result(model, images, labels):
    attacks = {"pgd": PGD, "cw": cw(epsilon="2/255", steps=6, step_size="0.5/255"), "fgsm": fgsm(epsilon="2/255")}
    return evaluate(model, (images, labels), attacks, engine=FLOAT)


def test_natural_accuracy_is_that_of_the_model(model, images, labels, result):
    assert torch.equal(result["natural"].predictions, predictions(model, images))
    assert result["natural"].accuracy == pytest.approx(0.9)


def test_robust_are_images_that_no_iterate_fools(model, images, labels, result):
    right = predictions(model, images) == labels
    for iterate in iterates(model, images, labels, PGD):
        right &= predictions(model, iterate) == labels
    assert 0.3 < float(right.double().mean()) < 0.8
    assert torch.equal(result["pgd"].per_sample, right)


def test_without_early_stop_the_last_iterate_counts(model, images, labels):
    attack = pgd(epsilon="2/255", steps=6, step_size="0.5/255", early_stop=False)
    found = evaluate(model, (images, labels), {"pgd": attack}, engine=PLAIN)["pgd"]
    last = iterates(model, images, labels, attack)[-1]
    assert torch.equal(found.predictions, predictions(model, last))


def test_early_stop_only_finds_more(model, images, labels, result):
    attack = pgd(epsilon="2/255", steps=6, step_size="0.5/255", early_stop=False)
    last = evaluate(model, (images, labels), {"pgd": attack}, engine=FLOAT)["pgd"].per_sample
    assert not bool((result["pgd"].per_sample & ~last).any())
    assert float((result["pgd"].per_sample != last).double().mean()) < 0.05


@pytest.mark.parametrize("attack", [
    PGD,
    pgd(norm="L2", epsilon=0.15, steps=4, step_size=0.05, restarts=2),
    pgd(norm="L1", epsilon=1.0, steps=4, step_size=0.3, sparsity=0.05),
    pgd(epsilon="2/255", steps=3, step_size="1/255", targeted=True, loss="dlr"),
], ids=["Linf", "L2", "L1", "targeted"])  # fmt: skip
def test_results_do_not_depend_on_batch_size_or_order(model, images, labels, attack):
    expected = evaluate(model, (images, labels), {"a": attack}, batch_size=64, engine=FLOAT)["a"]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for size in (7, 160):
        found = evaluate(model, (images[order], labels[order]), {"a": attack}, batch_size=size, engine=FLOAT)["a"]
        assert torch.equal(found.predictions, expected.predictions[order])
    alone = evaluate(model, (images[:20], labels[:20]), {"a": attack}, batch_size=1, engine=FLOAT)["a"]
    assert torch.equal(alone.predictions, expected.predictions[:20])


def test_seeds_draw_other_starts(model, images, labels):
    first, second = (evaluate(model, (images, labels), {"pgd": PGD}, seed=seed, engine=FLOAT)["pgd"] for seed in (0, 1))
    assert not torch.equal(first.distances, second.distances)


def test_restarts_fool_at_least_as_many(model, images, labels, result):
    attack = pgd(epsilon="2/255", steps=6, step_size="0.5/255", restarts=3)
    more = evaluate(model, (images, labels), {"pgd": attack}, engine=FLOAT)["pgd"].per_sample
    assert not bool((more & ~result["pgd"].per_sample).any())


def test_a_targeted_attack_tries_every_class(model, images, labels, result):
    attack = pgd(epsilon="2/255", steps=6, step_size="0.5/255", targeted=True, loss="margin")
    found = evaluate(model, (images, labels), {"all": attack}, engine=FLOAT)["all"]
    assert found.accuracy <= result["pgd"].accuracy + 0.02


def test_the_worst_case_is_right_where_everything_is(result):
    together = torch.stack([outcome.per_sample for outcome in result.values()]).all(0)
    assert torch.equal(result.worst_case.per_sample, together)
    assert result.worst_case.accuracy <= min(outcome.accuracy for outcome in result.values())


def test_outcomes_by_name_in_order(result):
    assert list(result) == ["natural", "pgd", "cw", "fgsm"]
    with pytest.raises(KeyError, match="did you mean 'pgd'"):
        result["pdg"]


def test_classes_have_accuracies_that_make_up_the_whole(result, labels):
    counts = labels.bincount(minlength=5).double()
    whole = (result["pgd"].per_class * counts).sum() / counts.sum()
    assert float(whole) == pytest.approx(result["pgd"].accuracy)


def test_a_class_without_images_has_no_accuracy(model, images, labels):
    some = labels != 2
    found = evaluate(model, (images[some], labels[some]), {"pgd": PGD}, engine=FLOAT)["pgd"]
    assert math.isnan(float(found.per_class[2]))
    assert not bool(found.per_class[[0, 1, 3, 4]].isnan().any())


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (500, 1000, (0.4691, 0.5309))],
)
def test_intervals_are_those_of_wilson(successes, trials, expected):
    """Reference values: the tables of Newcombe 1998 give the same."""
    assert wilson(successes, trials) == pytest.approx(expected, abs=5e-5)


def test_comparisons_are_paired(model, images, labels, result):
    weak = pgd(epsilon="1/255", steps=2, step_size="0.5/255")
    weaker = evaluate(model, (images, labels), {"pgd": weak}, engine=FLOAT)
    found = result.compare(weaker)
    assert list(found) == ["natural", "pgd", "worst case"]
    assert (found["natural"].difference, found["natural"].p_value) == (0.0, 1.0)
    gained = found["pgd"]
    assert gained.only_second - gained.only_first == round(gained.difference * len(images))
    assert gained.p_value < 0.01
    with pytest.raises(InputError, match="different images"):
        result.compare(evaluate(model, (images[:8], labels[:8]), {"pgd": PGD}, engine=PLAIN))


@pytest.mark.parametrize("kind", ["uint8", "split", "float64"])
def test_data_come_as_tensors_or_splits(model, images, labels, kind):
    eight = (images * 255).round().to(torch.uint8)
    data = {
        "uint8": (eight, labels.int()),
        "split": Split(images=eight, labels=labels),
        "float64": (eight.double() / 255, labels),
    }[kind]
    found = evaluate(model, data, {"pgd": PGD}, engine=FLOAT)["pgd"]
    expected = evaluate(model, (eight.float() / 255, labels), {"pgd": PGD}, engine=FLOAT)["pgd"]
    assert torch.equal(found.predictions, expected.predictions)


def test_the_model_comes_back_as_it_was(model, images, labels):
    model.train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    try:
        evaluate(model, (images[:16], labels[:16]), {"pgd": PGD})
        assert model.training
        assert not model.norm.training
        assert model.first.training
    finally:
        model.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_mode_comes_back_after_an_interruption(model, images, labels):
    def interrupt(done, total):
        raise KeyboardInterrupt

    model.train()
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, (images, labels), {"pgd": PGD}, progress=interrupt)
        assert model.training
    finally:
        model.eval()


def test_progress_counts_images_over_all_attacks(model, images, labels):
    heard = []
    evaluate(
        model, (images[:20], labels[:20]), {"a": PGD, "b": fgsm(epsilon="2/255")}, batch_size=8, engine=PLAIN,
        progress=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    assert heard == [(8, 40), (16, 40), (20, 40), (28, 40), (36, 40), (40, 40)]


class Kept(dict):
    """Chunks in memory; raises once `limit` of them are kept."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def load(self, key):
        return self.get(key)

    def save(self, key, chunk):
        if len(self) == self.limit:
            raise KeyboardInterrupt
        self[key] = chunk


def test_an_evaluation_that_was_cut_off_goes_on_where_it_was(model, images, labels, result):
    kept = Kept(limit=7)
    arguments = {"batch_size": 40, "engine": FLOAT, "chunks": kept}
    attacks = {name: outcome.attack for name, outcome in result.items() if outcome.attack}
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, (images, labels), attacks, **arguments)
    assert len(kept) == 7
    first = {key: value.clone() for key, value in kept.items()}
    kept.limit = None
    found = evaluate(model, (images, labels), attacks, **arguments)
    assert len(kept) == 16
    assert all(torch.equal(kept[key], value) for key, value in first.items())
    for name in result:
        assert torch.equal(found[name].predictions, result[name].predictions)


def test_kept_chunks_of_another_shape_are_refused(model, images, labels):
    kept = Kept(limit=None)
    kept["natural/0-9"] = torch.zeros(3, 2)
    with pytest.raises(InputError, match=r"'natural/0-9': expected the shape \(\d+, 2\), got"):
        evaluate(model, (images[:10], labels[:10]), {"pgd": PGD}, chunks=kept)


def test_perturbed_images_are_those_that_were_evaluated(model, images, labels, result):
    attacked = perturb(model, images, labels, PGD, batch_size=50, engine=FLOAT)
    assert torch.equal(predictions(model, attacked), result["pgd"].predictions)
    assert float(NORMS["Linf"].distance(attacked - images).max()) <= PGD.epsilon + 1e-6


def test_perturbing_toward_targets(model, images, labels):
    targets = (labels + 1) % 5
    attack = pgd(epsilon="16/255", steps=10, step_size="4/255", targeted=True, loss="margin")
    attacked = perturb(model, images, labels, attack, targets=targets, engine=FLOAT)
    assert float((predictions(model, attacked) == targets).double().mean()) > 0.5


def test_starts_can_depend_on_numbers_instead_of_pixels(model, images, labels):
    attack = pgd(epsilon="2/255", steps=1, step_size="0.5/255", early_stop=False)
    ids = torch.arange(len(images))
    first = perturb(model, images, labels, attack, ids=ids, engine=FLOAT)
    assert torch.equal(perturb(model, images, labels, attack, ids=ids, engine=FLOAT), first)
    assert not torch.equal(perturb(model, images, labels, attack, ids=ids + 1, engine=FLOAT), first)


def test_targets_go_with_targeted_attacks(model, images, labels):
    with pytest.raises(InputError, match="expected targets, one class for each image, got none"):
        perturb(model, images, labels, pgd(epsilon=0.1, steps=1, step_size=0.1, targeted=True))
    with pytest.raises(InputError, match="need a targeted attack"):
        perturb(model, images, labels, PGD, targets=labels)


@pytest.mark.parametrize("target", [-1, 5, "its label"])
def test_targets_are_other_classes(model, images, labels, target):
    targets = (labels + 1) % 5
    targets[3] = labels[3] if target == "its label" else target
    attack = pgd(epsilon=0.1, steps=1, step_size=0.1, targeted=True)
    with pytest.raises(InputError, match=r"image 3 with label . has target .*another class, 0 to 4"):
        perturb(model, images, labels, attack, targets=targets)


@pytest.mark.parametrize("change", [
    (lambda x, y: ((x * 255), y), "got up to 25.*\n.*divide by 255"),
    (lambda x, y: (x * 1.5, y), "got up to 1.*\n.*normalization"),
    (lambda x, y: (x - 0.5, y), "expected pixels from 0 to 1, got down to -0"),
    (lambda x, y: (x * float("nan"), y), "not a number"),
    (lambda x, y: (x.long(), y), "uint8, or floating in .0, 1.,"),
    (lambda x, y: (x[:0], y[:0]), "expected images of shape"),
    (lambda x, y: (x, y.float()), "expected labels that are whole numbers"),
    (lambda x, y: (x, y[:-1]), "expected a label for each of the 160 images"),
    (lambda x, y: (x, y - 1), "label -1; labels count from 0"),
    (lambda x, y: (x, y + 1), "has label 5, but the model has 5 outputs"),
    (lambda x, y: (x[:, :1], y), "Small refuses images of shape"),
    (lambda x, y: x, "a pair of tensors"),
], ids=lambda change: change[1][:20])  # fmt: skip
def test_bad_data_are_refused_by_name(model, images, labels, change):
    make, message = change
    with pytest.raises(InputError, match=message):
        evaluate(model, make(images, labels), {"pgd": PGD})


@pytest.mark.parametrize(("attacks", "message"), [
    ({}, "no attacks"),
    ({"natural": PGD}, "cannot be called 'natural'"),
    ({"pgd": {"steps": 3}}, "expected an attack, .* got dict"),
    ({"far": pgd(norm="L2", epsilon=128, steps=1, step_size=1)}, "any image(.|\n)*write 128/255"),
])  # fmt: skip
def test_bad_attacks_are_refused_by_name(model, images, labels, attacks, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, (images, labels), attacks)


def test_a_network_for_other_classes_than_the_data_is_refused(model):
    data = planted(train_size=9, test_size=9)
    with pytest.raises(InputError, match="the model has 5 outputs, the data 9 classes"):
        evaluate(model, data, {"pgd": PGD})


class WithoutGradient(nn.Module):
    def forward(self, x):
        return x.detach().flatten(1)[:, :5]


def test_a_network_without_gradients_is_refused(images, labels):
    with pytest.raises(InputError, match="WithoutGradient have no gradient with respect to the images"):
        evaluate(WithoutGradient(), (images, labels), {"pgd": PGD})


@pytest.mark.parametrize("outputs", [lambda y: y[:, :1], lambda y: y[:, 0], lambda y: (y, y), lambda y: y / 0])
def test_outputs_that_are_no_logits_are_refused(images, labels, outputs):
    class Odd(nn.Module):
        def forward(self, x):
            return outputs(x.flatten(1)[:, :5])

    with pytest.raises(InputError, match=r"expected outputs of shape|expected logits .* got tuple|not finite"):
        evaluate(Odd(), (images, labels), {"pgd": PGD})


def test_dlr_needs_three_classes(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    labels = torch.zeros(160, dtype=torch.int64)
    with pytest.raises(InputError, match="'dlr' takes 3 classes or more; the model has 2"):
        evaluate(network, (images, labels), {"dlr": pgd(epsilon=0.1, steps=1, step_size=0.1, loss="dlr")})


def test_batches_have_at_least_one_image(model, images, labels):
    with pytest.raises(InputError, match="batch_size: expected a whole number of at least 1, got 0"):
        evaluate(model, (images, labels), {"pgd": PGD}, batch_size=0)


def test_results_print_themselves(result):
    text = repr(result)
    assert text.splitlines()[0] == "Evaluation of 160 images"
    assert "worst case" in text
    assert "90.00% of 160" in text
    assert text.splitlines()[-2:] == [
        "all 12 checks passed",
        "searched on a traced copy with batch norm folded in float32",
    ]
    html = result._repr_html_()
    assert html.count("<tr>") == 6
    assert "<td>natural</td><td>90.00%</td>" in html
    assert "<table>" in result["pgd"]._repr_html_()


def test_names_in_notebooks_are_escaped(model, images, labels):
    found = evaluate(model, (images[:8], labels[:8]), {"<b>": PGD}, engine=PLAIN)
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


def test_failed_checks_are_printed_in_full(model, images, labels):
    with pytest.warns(UserWarning, match="probabilities"):
        found = evaluate(nn.Sequential(model, nn.Softmax(1)), (images[:8], labels[:8]), {"pgd": PGD}, engine=PLAIN)
    assert "check logits: failed: outputs are in [0, 1] and sum to 1" in repr(found)
    assert "check logits: failed" in found._repr_html_()


@pytest.mark.parametrize("make", [torch.tensor, np.array, list])
def test_mcnemar_takes_boolean_arrays(make):
    first, second = make([True] * 8 + [False] * 2), make([True] * 2 + [False] * 7 + [True])
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second, found.difference) == (6, 1, pytest.approx(-0.5))
    assert found.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(first, first).p_value == 1.0


def test_mcnemar_refuses_other_images():
    with pytest.raises(InputError, match=r"shapes \(3,\) and \(2,\)"):
        mcnemar([True] * 3, [True] * 2)


@pytest.mark.parametrize("trials", [1, 10, 90, 1000, 10000])
def test_intervals_agree_with_the_formula(trials):
    """Wilson 1927; stores of earlier versions hold this formula's values."""
    z = 1.959963984540054
    for successes in {0, 1, trials // 3, trials // 2, trials}:
        share, spread = successes / trials, z * z / trials
        middle = (share + spread / 2) / (1 + spread)
        half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
        assert wilson(successes, trials) == pytest.approx((middle - half, middle + half), abs=1e-12)

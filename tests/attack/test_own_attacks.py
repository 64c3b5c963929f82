"""Attacks that a user writes against the interface: verified, resumed, independent of batches, checked."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional

from surgery.attack import (
    NORMS,
    PLAIN,
    Engine,
    EvaluationWarning,
    Iterate,
    attack_batch,
    check_attack_names,
    confusion_matrix,
    evaluate,
    perturb,
    pgd,
    settings_of,
)
from surgery.attack.random_start import generator_of
from surgery.attack.target import prepare
from surgery.errors import InputError

FLOAT = Engine(precision="float32")
PGD = pgd(epsilon="3/255", steps=5, step_size="1/255")


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Improving iterates without gradients: changes random signs of random pixels, and keeps what lowers the margin."""

    epsilon: float
    steps: int
    norm: str = "Linf"
    uses_gradients: bool = False

    def __call__(self, target, images, labels, generator):
        best = (images + self.epsilon * (2.0 * generator.integers(0, 2, *images.shape[1:]) - 1.0)).clamp(0, 1)
        lowest = margins(target, best, labels)
        for _ in range(self.steps):
            standing = yield best
            best, images, labels, lowest = best[standing], images[standing], labels[standing], lowest[standing]
            generator = generator[standing]
            signs = 2.0 * generator.integers(0, 2, *images.shape[1:]) - 1.0
            chosen = generator.uniform(*images.shape[1:]) < 0.2
            proposal = torch.where(chosen, (images + self.epsilon * signs).clamp(0, 1), best)
            found = margins(target, proposal, labels)
            better = found < lowest
            best = torch.where(better[:, None, None, None], proposal, best)
            lowest = torch.where(better, found, lowest)
        yield best


def margins(target, images, labels):
    logits = target.surrogate(images)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


@dataclass(frozen=True, kw_only=True)
class SignSteps:
    """A gradient attack that returns its images at once, and can be aimed at a class."""

    epsilon: float
    steps: int
    norm: str = "Linf"
    loss: str = "cross-entropy"
    early_stop: bool = True

    def __call__(self, target, images, labels, generator, *, targets=None):
        moved = images + self.epsilon * (2.0 * generator.uniform(*images.shape[1:]) - 1.0)
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            losses = functional.cross_entropy(
                target.surrogate(moved), labels if targets is None else targets, reduction="none"
            )
            step = target.gradient(losses if targets is None else -losses, moved).sign()
            moved = (moved + step / 255).clamp(images - self.epsilon, images + self.epsilon).clamp(0, 1)
        return moved.detach()


OWN = {"random search": RandomSearch(epsilon=6 / 255, steps=12), "sign steps": SignSteps(epsilon=3 / 255, steps=5)}


@pytest.fixture(scope="module")
def result(model, images, labels):
    return evaluate(model, (images, labels), {**OWN, "pgd": PGD}, engine=FLOAT)


def test_attacks_of_a_user_are_evaluated_with_others(result):
    assert list(result) == ["natural", "random search", "sign steps", "pgd"]
    assert result["random search"].accuracy < result["natural"].accuracy - 0.1
    assert abs(result["sign steps"].accuracy - result["pgd"].accuracy) < 0.05
    together = torch.stack([outcome.per_sample for outcome in result.values()]).all(0)
    assert torch.equal(result.worst_case.per_sample, together)


def test_their_checks_pass(result):
    assert [check.name for check in result.checks if not check.passed] == []
    names = [check.name for check in result.checks]
    assert {"within epsilon: random search", "within epsilon: sign steps", "gradients", "epsilon 0"} <= {*names}


@pytest.mark.parametrize("name", OWN)
def test_predictions_are_those_of_the_model_for_the_attacked_images(model, images, labels, result, name):
    attacked = perturb(model, images, labels, OWN[name], engine=FLOAT, batch_size=50)
    with torch.no_grad():
        assert torch.equal(model(attacked).argmax(1), result[name].predictions)
    assert float(NORMS["Linf"].distance(attacked - images).max()) <= OWN[name].epsilon + 1e-6


@pytest.mark.parametrize("name", OWN)
def test_results_do_not_depend_on_batch_size_or_order(model, images, labels, result, name):
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for size in (7, 160):
        found = evaluate(model, (images[order], labels[order]), {"a": OWN[name]}, batch_size=size, engine=FLOAT)["a"]
        assert torch.equal(found.predictions, result[name].predictions[order])


def test_an_interrupted_evaluation_resumes(model, images, labels, result):
    kept = {}

    class Kept:
        load = staticmethod(kept.get)

        @staticmethod
        def save(key, chunk):
            if len(kept) == 6:
                raise KeyboardInterrupt
            kept[key] = chunk

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, (images, labels), OWN, engine=FLOAT, batch_size=40, chunks=Kept)
    before = {key: chunk.clone() for key, chunk in kept.items()}
    assert [*kept][-2:] == ["random search/0-39", "random search/40-79"]
    found = evaluate(model, (images, labels), OWN, engine=FLOAT, batch_size=40, chunks=Limitless(kept))
    assert all(torch.equal(kept[key], chunk) for key, chunk in before.items())
    for name in OWN:
        assert torch.equal(found[name].predictions, result[name].predictions)
        assert torch.equal(found[name].distances, result[name].distances)


class Limitless:
    def __init__(self, kept):
        self.load = kept.get
        self.save = kept.__setitem__


class Around:
    """An attack that is no dataclass, given as a function."""

    norm, epsilon = "Linf", 3 / 255

    def __init__(self, function):
        self.function = function

    def __call__(self, target, images, labels, generator):
        return self.function(target, images, labels, generator)


def flagged(model, images, labels, function):
    with pytest.warns(EvaluationWarning):
        found = evaluate(model, (images, labels), {"own": Around(function)}, engine=PLAIN)
    return {check.name: check.detail for check in found.checks if not check.passed}


def test_images_outside_of_epsilon_are_found(model, images, labels):
    found = flagged(model, images, labels, lambda target, x, y, generator: (x + 0.1).clamp(0, 1))
    assert found["within epsilon: own"].startswith("the largest Linf distance is 0.1")


def test_images_outside_of_the_range_are_found(model, images, labels):
    found = flagged(model, images, labels, lambda target, x, y, generator: x + 2)
    assert "outside [0, 1]" in found["within epsilon: own"]


def test_images_that_are_not_a_number_are_found(model, images, labels):
    found = flagged(model, images, labels, lambda target, x, y, generator: x * float("nan"))
    assert "outside [0, 1]" in found["within epsilon: own"]


def test_an_attack_that_fails_at_epsilon_zero_loses_no_evaluation(model, images, labels):
    @dataclass(frozen=True)
    class Divides:
        epsilon: float = 3 / 255
        norm: str = "Linf"

        def __call__(self, target, images, labels, generator):
            return (images + 1 / (1 / self.epsilon)).clamp(0, 1)

    found = evaluate(model, (images, labels), {"own": Divides()}, engine=PLAIN)
    [check] = [check for check in found.checks if check.name == "epsilon 0"]
    assert check.passed
    assert check.detail.endswith("own raised ZeroDivisionError: float division by zero")


def test_the_first_success_counts_and_ends_the_search(model, images, labels):
    """Iterates further and further from the image, one of which fools the network; masks say which images stand."""
    direction = images.mean((2, 3), keepdim=True).round() * -2 + 1
    rows = []

    def further(target, x, y, generator):
        for step in range(1, 13):
            standing = yield (x + step / 255 * direction[: len(x)]).clamp(0, 1)
            rows.append(int(standing.sum()))

    further.norm, further.epsilon, further.early_stop = "Linf", 12 / 255, False
    target = prepare(model, images[:4], engine=PLAIN)
    found = attack_batch(target, further, images, labels, generator=generator_of(images, 0))
    assert rows == sorted(rows, reverse=True)
    expected = torch.zeros(len(images), dtype=torch.int64)
    for number in range(len(images)):
        step = expected[number]
        while step < 12:
            step += 1
            moved = (images[number] + step / 255 * direction[number]).clamp(0, 1)
            with torch.no_grad():
                if model(moved[None]).argmax() != labels[number]:
                    break
        expected[number] = step
    distances = (NORMS["Linf"].distance(found.images - images) * 255).round().long()
    assert torch.equal(distances, expected)
    assert rows[-1] == int((found.predictions == labels).sum())


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """Several attacks one after the other, each on the images that the earlier ones did not fool."""

    parts: tuple
    norm: str = "Linf"

    @property
    def epsilon(self):
        return max(part.epsilon for part in self.parts)

    def __call__(self, target, images, labels, generator):
        for number, part in enumerate(self.parts):
            own = generator.stream(number)
            standing = yield attack_batch(target, part, images, labels, generator=own).images
            images, labels, generator = images[standing], labels[standing], generator[standing]


def test_attacks_are_made_of_attacks(model, images, labels, result):
    together = InTurn(parts=(*OWN.values(), PGD))
    found = evaluate(model, (images, labels), {"all": together}, engine=FLOAT, batch_size=50)
    assert all(check.passed for check in found.checks)
    assert found["all"].accuracy <= result["random search"].accuracy + 0.02
    assert found["all"].accuracy <= result["pgd"].accuracy + 0.02
    again = evaluate(model, (images, labels), {"all": together}, engine=FLOAT)["all"]
    assert torch.equal(again.predictions, found["all"].predictions)


def test_success_that_only_the_attack_believes_in_does_not_count(model, images, labels):
    def liar(target, x, y, generator):
        for _ in range(3):
            yield Iterate(images=x, logits=-target.surrogate(x))

    found = evaluate(model, (images, labels), {"liar": Around(liar)}, engine=PLAIN)
    assert found["liar"].accuracy == found["natural"].accuracy


def test_an_image_that_the_attack_takes_for_right_is_verified_at_the_end(model, images, labels):
    """Logits of an iterate save verifications on the way, and never hide a success in the last one."""

    def shy(target, x, y, generator):
        believed = functional.one_hot(y, target.num_classes).float()
        yield Iterate(images=x, logits=believed)
        yield Iterate(images=SignSteps(epsilon=3 / 255, steps=5)(target, x, y, generator), logits=believed)

    found = evaluate(model, (images, labels), {"shy": Around(shy)}, engine=FLOAT)["shy"]
    assert found.accuracy < 0.8


def test_random_numbers_come_from_the_seed(model, images, labels):
    attack = OWN["random search"]
    first, again, other = (perturb(model, images, labels, attack, seed=seed, engine=PLAIN) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_attack_without_gradients_takes_a_model_without(images, labels, model):
    class Rounded(torch.nn.Module):
        def forward(self, x):
            return model(x.detach())

    with pytest.raises(InputError, match="have no gradient"):
        evaluate(Rounded(), (images, labels), {"own": OWN["sign steps"]})
    found = evaluate(Rounded(), (images, labels), {"own": OWN["random search"]}, engine=FLOAT)
    assert found["own"].accuracy < found["natural"].accuracy - 0.1
    assert all(check.passed for check in found.checks)
    assert "gradients" not in [check.name for check in found.checks]


def test_an_attack_that_accepts_targets_is_aimed_at_them(model, images, labels):
    attack = SignSteps(epsilon=16 / 255, steps=10)
    targets = (labels + 1) % 5
    attacked = perturb(model, images, labels, attack, targets=targets, engine=FLOAT)
    with torch.no_grad():
        assert float((model(attacked).argmax(1) == targets).double().mean()) > 0.5
    aimed = confusion_matrix(model, (images, labels), attack, targeted=True, engine=FLOAT)
    assert aimed.counts.sum() > 2 * len(images)
    with pytest.raises(InputError, match="RandomSearch cannot be aimed at a class"):
        confusion_matrix(model, (images, labels), OWN["random search"], targeted=True)
    with pytest.raises(InputError, match="need a targeted attack"):
        perturb(model, images, labels, OWN["random search"], targets=targets)


def test_an_untargeted_matrix_takes_any_attack(model, images, labels, result):
    found = confusion_matrix(model, (images, labels), OWN["random search"], engine=FLOAT)
    landed = torch.bincount(result["random search"].predictions, minlength=5)
    assert torch.equal(found.counts.sum(0), landed)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda target, x, y, generator: None, "Around returned NoneType"),
        (lambda target, x, y, generator: [x], "Around returned list"),
        (lambda target, x, y, generator: x[:3], r"yielded \(3, 3, 8, 8\); expected .* \(115, 3, 8, 8\)"),
        (lambda target, x, y, generator: x.long(), "expected floating-point images"),
        (lambda target, x, y, generator: iter([x, "images"]), "Around yielded str"),
    ],
)
def test_what_is_no_image_is_refused(model, images, labels, function, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, (images, labels), {"own": Around(function)}, engine=PLAIN)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (SignSteps, "attack 'own': expected an attack, .* got SignSteps"),
        (lambda target, images, labels, generator: images, "expected an attack, a callable with norm"),
        (SignSteps(epsilon=0.1, steps=1, norm="Linfinity"), "expected an attack, .* got SignSteps"),
        (
            SignSteps(epsilon="8/255", steps=1),
            "attack 'own': epsilon: expected a finite number of at least 0, got '8/255'",
        ),
        (SignSteps(epsilon=float("inf"), steps=1), "epsilon: expected a finite number of at least 0, got inf"),
        (SignSteps(epsilon=8, steps=1), r"epsilon 8 allows any image(.|\n)*write 8/255"),
        (SignSteps(epsilon=0.1, steps=1, loss="dlr"), None),
    ],
)
def test_values_that_are_no_attack_are_refused(model, images, labels, attack, message):
    if message is None:
        evaluate(model, (images[:8], labels[:8]), {"own": attack}, engine=PLAIN)
    else:
        with pytest.raises(InputError, match=message):
            evaluate(model, (images, labels), {"own": attack}, engine=PLAIN)


@pytest.mark.parametrize("name", ["natural", "worst case", "worst_case"])
def test_names_of_other_outcomes_are_refused_before_anything_is_computed(model, images, labels, name):
    class Untouched(torch.nn.Module):
        def forward(self, x):
            raise AssertionError("the model is not called")

    with pytest.raises(InputError, match=f"cannot be called '{name}'"):
        evaluate(Untouched(), (images, labels), {"pgd": PGD, name: PGD})
    with pytest.raises(InputError, match=f"cannot be called '{name}'"):
        check_attack_names(["pgd", name])


def test_settings_of_attacks_are_plain_values():
    assert settings_of(PGD) == vars(PGD)
    assert settings_of(OWN["random search"]) == {**vars(OWN["random search"])}
    assert settings_of(Around(len)) == {"attack": "Around", "norm": "Linf", "epsilon": 3 / 255, "function": len}

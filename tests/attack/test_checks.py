"""Checks fire on planted faults, and pass without."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from surgery.attack import EvaluationWarning, confusion_matrix, evaluate, perturb, pgd
from surgery.attack.checks import check_logits, check_within, distances

PGD = pgd(epsilon="2/255", steps=4, step_size="0.5/255")


def failed(model, images, labels, attack=PGD):
    """The names of the checks that failed, each of which was warned about."""
    with pytest.warns(EvaluationWarning) as warned:
        result = evaluate(model, (images, labels), {"pgd": attack})
    names = [check.name for check in result.checks if not check.passed]
    assert [str(warning.message).split(": failed")[0] for warning in warned] == names
    return {check.name: check.detail for check in result.checks if not check.passed}


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def test_a_sound_model_passes_all_checks(model, images, labels):
    result = evaluate(model, (images, labels), {"pgd": PGD, "one": pgd(epsilon=0.01, steps=1, step_size=0.01)})
    assert all(check.passed for check in result.checks)
    assert [check.name for check in result.checks] == [
        "evaluation mode", "repeatable forward", "independent images", "logits", "evaluation mode afterwards",
        "within epsilon: pgd", "within epsilon: one", "gradients", "epsilon 0", "more steps: pgd",
    ]  # fmt: skip


def test_a_model_that_came_in_training_mode_is_told_so(model, images, labels):
    model.train()
    try:
        result = evaluate(model, (images, labels), {"pgd": PGD})
    finally:
        model.eval()
    assert result.checks[0].passed
    assert result.checks[0].detail == "came in training mode, which comes back"


class SwitchesItself(Around):
    """Attack libraries do this to models: back to training mode in the middle."""

    def __init__(self, inner):
        super().__init__(inner)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        self.dropout.train()
        return self.inner(self.dropout(x))


def test_a_module_that_goes_back_to_training_mode_is_found(model, images, labels):
    found = failed(SwitchesItself(model), images, labels)
    assert found["evaluation mode"].endswith("a forward: dropout")
    assert "repeatable forward" in found


class Noisy(Around):
    def forward(self, x):
        return self.inner(x + 0.1 * torch.randn_like(x))


def test_a_forward_that_is_not_repeatable_is_found(model, images, labels):
    with torch.random.fork_rng():
        found = failed(Noisy(model), images, labels)
    assert "two forwards differ" in found["repeatable forward"]


def test_a_model_that_is_not_repeatable_is_not_searched_on_a_copy(model, images, labels):
    with torch.random.fork_rng(), pytest.warns(EvaluationWarning):
        result = evaluate(Noisy(model), (images[:16], labels[:16]), {"pgd": PGD})
    assert result.notes == ("searched on the model itself in float32",)


class OfTheBatch(Around):
    def forward(self, x):
        return functional.layer_norm(self.inner(x).T, (len(x),)).T if len(x) > 1 else self.inner(x)


def test_an_image_whose_logits_depend_on_its_batch_is_found(model, images, labels):
    assert "depend on its batch" in failed(OfTheBatch(model), images, labels)["independent images"]


class Probabilities(Around):
    def forward(self, x):
        return self.inner(x).softmax(1)


def test_a_model_that_returns_probabilities_is_found(model, images, labels):
    assert "returns probabilities" in failed(Probabilities(model), images, labels)["logits"]


class Flattens(Around):
    """Flattens as many networks do, which torch refuses for a batch without images."""

    def forward(self, x):
        return self.inner(x.view(x.size(0), -1).reshape(x.shape))


def test_an_evaluation_without_an_image_that_is_right_is_not_lost(model, images, labels):
    result = evaluate(Flattens(model), (images, (model(images).argmax(1) + 1) % 5), {"pgd": PGD})
    assert result["natural"].accuracy == 0
    [found] = [check for check in result.checks if check.name == "gradients"]
    assert found.detail == "gradients that are zero or not finite: 0 of 0 for cross-entropy"


class RefusesSingles(Around):
    def forward(self, x):
        if len(x) == 1:
            raise ValueError("a batch of one image")
        return self.inner(x)


def test_what_a_model_raises_in_a_check_is_a_failed_check(model, images, labels):
    attack = pgd(epsilon="2/255", steps=4, step_size="0.5/255", early_stop=False)
    found = failed(RefusesSingles(model), images[:32], labels[:32], attack)
    assert found["independent images"] == "the check raised ValueError: a batch of one image"


@pytest.mark.parametrize("name", ["check_mode", "check_gradients", "check_epsilon_zero", "check_more_steps"])
def test_no_check_after_the_attack_loses_an_evaluation(model, images, labels, monkeypatch, name):
    def broken(*arguments, **keywords):
        raise RuntimeError("broken\nin many lines")

    monkeypatch.setattr(f"surgery.attack.evaluation.{name}", broken)
    found = failed(model, images[:32], labels[:32])
    assert list(found.values()) == ["the check raised RuntimeError: broken"]


def test_other_attacks_warn_as_well(model, images, labels):
    with pytest.warns(EvaluationWarning, match="returns probabilities"):
        perturb(Probabilities(model), images[:8], labels[:8], PGD)
    with pytest.warns(EvaluationWarning, match="returns probabilities"):
        confusion_matrix(Probabilities(model), (images[:8], labels[:8]), PGD)


@pytest.mark.parametrize("logits", [[[0.5, 0.6]], [[1.2, -0.2]], [[-0.1, -2.4]], [[3.0, 5.0]]])
def test_logits_and_logarithms_of_probabilities_are_none(logits):
    assert check_logits(torch.tensor(logits)).passed


class Masked(Around):
    """Right answers, and no gradient: what attacks by gradients cannot see."""

    def forward(self, x):
        return self.inner((x * 255).round() / 255)


def test_masked_gradients_are_found(model, images, labels):
    found = failed(Masked(model), (images * 255).round() / 255, labels)
    assert found["gradients"] == "gradients that are zero or not finite: 3 of 3 for cross-entropy"


def test_more_steps_that_hurt_are_found(images):
    """A loss that falls again after a ridge: a search of twice the length crosses it, and the image is right again."""

    class Ridge(nn.Module):
        def forward(self, x):
            level = x.mean((1, 2, 3))
            push = level - level.detach()  # the gradient always points up
            wrong = ((level > 0.52) & (level < 0.58)).float()
            return torch.stack([2 - 4 * wrong - push, torch.zeros_like(level)], dim=1)

    flat = torch.full((64, 3, 8, 8), 0.5)
    attack = pgd(epsilon=0.2, steps=5, step_size=0.01, start="zero", early_stop=False)
    found = failed(Ridge(), flat, torch.zeros(64, dtype=torch.int64), attack)
    assert found == {"more steps: pgd": "0 of 4 right after 5 steps, 4 after 10"}


def test_perturbations_are_recomputed_from_the_images():
    images = torch.full((2, 1, 2, 2), 0.5)
    moved = images.clone()
    moved[1] += 3 / 255
    found = distances(images, moved, PGD)
    assert found.tolist() == pytest.approx([0, 3 / 255], abs=1e-6)
    check = check_within("pgd", PGD, found)
    assert not check.passed
    assert check.detail == "the largest Linf distance is 0.0117647, epsilon 0.00784314"


def test_attacked_images_outside_the_range_are_found():
    images = torch.full((2, 1, 2, 2), 0.999)
    check = check_within("pgd", PGD, distances(images, images + 2 / 255, PGD))
    assert not check.passed
    assert "outside [0, 1]" in check.detail

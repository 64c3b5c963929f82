"""The attack confusion matrix: rows that sum to one, targets that were reached, blocks."""

import math

import pytest
import torch

from surgery.attack import PLAIN, Confusion, Engine, confusion_matrix, evaluate, perturb, pgd
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy

ATTACK = pgd(epsilon="3/255", steps=5, step_size="1/255")
PAIRS = Hierarchy.of_labels([0, 0, 1, 1, 2], method="test")


@pytest.fixture(scope="module")
def untargeted(model, images, labels):
    return confusion_matrix(model, (images, labels), ATTACK, engine=PLAIN)


@pytest.fixture(scope="module")
def targeted(model, images, labels):
    return confusion_matrix(model, (images, labels), ATTACK, targeted=True, engine=PLAIN)


def test_untargeted_rows_are_where_images_land_after_all_steps(model, images, labels, untargeted):
    attack = pgd(epsilon="3/255", steps=5, step_size="1/255", early_stop=False)
    landed = evaluate(model, (images, labels), {"pgd": attack}, engine=PLAIN)["pgd"].predictions
    expected = torch.zeros(5, 5, dtype=torch.int64)
    for label, prediction in zip(labels, landed, strict=True):
        expected[label, prediction] += 1
    assert torch.equal(untargeted.counts, expected)
    assert torch.equal(untargeted.images_per_class, labels.bincount(minlength=5))
    torch.testing.assert_close(untargeted.matrix.sum(1), torch.ones(5, dtype=torch.float64))


def test_targeted_entries_count_the_targets_that_were_reached(model, images, labels, targeted):
    reached = torch.zeros(len(images), 5, dtype=torch.bool)
    attack = pgd(epsilon="3/255", steps=5, step_size="1/255", targeted=True)
    for shift in range(1, 5):
        targets = (labels + shift) % 5
        attacked = perturb(model, images, labels, attack, targets=targets, engine=PLAIN)
        with torch.no_grad():
            reached[torch.arange(len(images)), targets] = model(attacked).argmax(1) == targets
    for label in range(5):
        of_class = reached[labels == label]
        expected = of_class.sum(0)
        expected[label] = (~of_class.any(1)).sum()
        assert targeted.counts[label].tolist() == expected.tolist()
    assert not bool(targeted.matrix.isnan().any())


def test_the_arguments_say_whether_it_is_targeted(untargeted, targeted):
    assert (untargeted.targeted, untargeted.attack.targeted, untargeted.attack.early_stop) == (False, False, False)
    assert (targeted.targeted, targeted.attack.targeted, targeted.attack.early_stop) == (True, True, True)


def test_chunks_are_kept_and_progress_is_heard(model, images, labels, targeted):
    kept, heard = {}, []

    class Store:
        load = staticmethod(kept.get)
        save = staticmethod(kept.__setitem__)

    arguments = {"targeted": True, "batch_size": 100, "engine": Engine(precision="float32"), "chunks": Store()}
    first = confusion_matrix(model, (images, labels), ATTACK, progress=lambda *now: heard.append(now), **arguments)
    assert len(kept) == 8
    assert heard[-1] == (640, 640)
    assert torch.equal(confusion_matrix(model, (images, labels), ATTACK, **arguments).counts, first.counts)


def confusion(counts):
    counts = torch.tensor(counts)
    return Confusion(
        attack=ATTACK, targeted=False, counts=counts, images_per_class=counts.sum(1), seconds=0.0, notes=()
    )


COUNTS = [[6, 3, 1, 0, 0], [2, 6, 0, 1, 1], [0, 0, 5, 5, 0], [1, 1, 4, 4, 0], [0, 2, 0, 0, 8]]


def test_blocks_are_means_of_entries_off_the_diagonal():
    blocks = confusion(COUNTS).per_superclass(PAIRS)
    expected = [[0.25, 0.05, 0.05], [0.05, 0.45, 0.0], [0.1, 0.0, math.nan]]
    torch.testing.assert_close(blocks, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


def test_the_contrast_is_within_less_across():
    within, across = (0.3 + 0.2 + 0.5 + 0.4) / 4, (0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.2) / 16
    assert confusion(COUNTS).contrast(PAIRS) == pytest.approx(within - across)


def test_classes_without_images_are_left_out():
    """One made the contrast NaN, and the figure of M was refused."""
    absent = [list(row) for row in COUNTS]
    absent[1] = [0] * 5
    within, across = (0.3 + 0.5 + 0.4) / 3, (0.1 + 0.1 + 0.1 + 0.2) / 13
    assert confusion(absent).contrast(PAIRS) == pytest.approx(within - across)
    blocks = confusion(absent).per_superclass(PAIRS)
    expected = [[0.3, 0.05, 0.0], [0.05, 0.45, 0.0], [0.1, 0.0, math.nan]]
    torch.testing.assert_close(blocks, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    for label in (2, 3):
        absent[label] = [0] * 5
    assert confusion(absent).per_superclass(PAIRS)[1].isnan().all()
    absent[0] = [0] * 5
    with pytest.raises(InputError, match="no contrast"):
        confusion(absent).contrast(PAIRS)


def test_hierarchies_have_to_fit():
    with pytest.raises(InputError, match="M has 5 classes, the hierarchy 3"):
        confusion(COUNTS).contrast(Hierarchy.of_labels([0, 0, 1], method="test"))
    with pytest.raises(InputError, match="no contrast"):
        confusion(COUNTS).contrast(Hierarchy.of_labels([0] * 5, method="test"))


def test_a_matrix_prints_itself(untargeted):
    assert repr(untargeted).startswith("Confusion of 160 images, 5 classes, untargeted; row: true class")
    html = untargeted._repr_html_()
    assert html.count("<tr>") == 6
    assert f"<td>{float(untargeted.matrix[0, 0]):.0%}</td>" in html


def test_large_matrices_are_shortened():
    counts = torch.ones(30, 30, dtype=torch.int64).tolist()
    assert len(repr(confusion(counts)).splitlines()) == 1
    assert confusion(counts)._repr_html_().count("<tr>") == 0

"""The projected-gradient loop: against what is known in closed form, and what it leaves alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from surgery.attack import NORMS, pgd, random_start, search
from surgery.attack.pgd import ascend


def images_away_from_the_edges(count=5):
    return 0.3 + 0.4 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("norm", "epsilon", "dual"),
    [("Linf", 0.05, 1), ("L2", 0.2, 2), ("L1", 0.2, float("inf"))],
)
@pytest.mark.parametrize("start", ["uniform", "zero"])
def test_a_linear_loss_reaches_its_optimum(norm, epsilon, dual, start):
    """max <w, x + d> over |d| <= epsilon is <w, x> + epsilon |w|_dual, and away from the edges nothing else binds."""
    weight = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    images = images_away_from_the_edges()
    attack = pgd(
        norm=norm, epsilon=epsilon, steps=60, step_size=epsilon / 2, start=start,
        step_rule="linear-decay", sparsity=0.02 if norm == "L1" else None,
    )  # fmt: skip
    begin = random_start(images, attack, torch.Generator().manual_seed(2))
    found = search(lambda x: (x * weight).flatten(1).sum(1), images, attack, start=begin)
    best = (images * weight).flatten(1).sum(1) + epsilon * torch.linalg.vector_norm(weight, ord=dual)
    reached = (found * weight).flatten(1).sum(1)
    torch.testing.assert_close(reached, best, rtol=0, atol=1e-2 * epsilon)


def test_the_margin_of_a_linear_classifier_is_reached_in_linf():
    """min over the ball of z_y - z_j is that at the image less epsilon |w_y - w_j|_1."""
    weight = torch.randn(2, 48, generator=torch.Generator().manual_seed(1))
    images = images_away_from_the_edges()
    labels = torch.zeros(5, dtype=torch.int64)
    attack = pgd(epsilon=0.03, steps=10, step_size=0.01, loss="margin")
    start = random_start(images, attack, torch.Generator().manual_seed(2))

    def objective(x):
        return functional.cross_entropy(x.flatten(1) @ weight.T, labels, reduction="none")

    found = search(objective, images, attack, start=start)
    difference = weight[1] - weight[0]
    expected = images.flatten(1) @ difference + 0.03 * difference.abs().sum()
    torch.testing.assert_close(found.flatten(1) @ difference, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 0.1), ("L2", 0.7), ("L1", 5.0)])
def test_every_iterate_is_within_epsilon_and_the_range(norm, epsilon):
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(3)).round(decimals=1)
    seen = []

    def objective(x):
        seen.append(x.detach())
        return (x.sin() * torch.arange(48).reshape(3, 4, 4)).flatten(1).sum(1)

    attack = pgd(norm=norm, epsilon=epsilon, steps=5, step_size=epsilon, sparsity=0.3 if norm == "L1" else None)
    start = random_start(images, attack, torch.Generator().manual_seed(0))
    seen.append(search(objective, images, attack, start=start))
    assert len(seen) == 6
    for iterate in seen:
        assert bool(((iterate >= 0) & (iterate <= 1)).all())
        assert float(NORMS[norm].distance(iterate - images).max()) <= epsilon * (1 + 1e-4)


def test_parameters_get_no_gradient_and_keep_asking_for_one(model, images):
    attack = pgd(epsilon="8/255", steps=2, step_size="4/255")
    found = search(lambda x: model(x).sum(1), images[:4], attack, start=images[:4])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not found.requires_grad


def test_images_and_start_are_not_written_to(model, images):
    before = images.clone()
    attack = pgd(epsilon="8/255", steps=2, step_size="4/255")
    start = images[:4]
    search(lambda x: model(x).sum(1), images[:4], attack, start=start)
    assert torch.equal(images, before)


def test_a_search_runs_where_gradients_are_switched_off(model, images):
    attack = pgd(epsilon="8/255", steps=2, step_size="4/255")
    with torch.no_grad():
        found = search(lambda x: model(x)[:, 0], images[:4], attack, start=images[:4])
    assert not torch.equal(found, images[:4])


def test_the_losses_of_other_images_do_not_matter(model, images):
    attack = pgd(epsilon="8/255", steps=3, step_size="4/255")
    together = search(lambda x: model(x)[:, 0], images[:4], attack, start=images[:4])
    alone = search(lambda x: model(x)[:, 0], images[2:3], attack, start=images[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-6)


def test_images_that_leave_are_not_searched_any_more():
    images = torch.full((3, 1, 2, 2), 0.5)
    limits = torch.tensor([0.5, 0.625, 2.0])
    sizes, seen = [], {0: [], 1: [], 2: []}

    def probe(iterates, rows):
        sizes.append(len(rows))
        for row, iterate in zip(rows.tolist(), iterates, strict=True):
            seen[row].append(float(iterate.detach().flatten()[0]))
        return iterates.flatten(1).sum(1), None

    attack = pgd(epsilon=0.5, steps=4, step_size=0.125, start="zero")
    loop, rows = ascend(probe, images, attack, start=images), torch.arange(3)
    iterate = next(loop)
    for _ in range(4):
        standing = iterate.images.flatten(1)[:, 0] < limits[rows]
        rows = rows[standing]
        iterate = loop.send(standing)
    last = iterate.images
    with pytest.raises(StopIteration) as end:
        loop.send(torch.tensor([True]))
    assert end.value.value.tolist() == [2]
    assert sizes == [3, 2, 1, 1]
    assert seen == {0: [0.5], 1: [0.5, 0.625], 2: [0.5, 0.625, 0.75, 0.875]}
    assert last[:, 0, 0, 0].tolist() == [1.0]


def test_a_search_without_a_mask_keeps_all_images():
    images = torch.full((3, 1, 2, 2), 0.5)
    attack = pgd(epsilon=0.5, steps=2, step_size=0.125, start="zero")
    iterates = list(ascend(lambda x, rows: (x.flatten(1).sum(1), None), images, attack, start=images))
    assert [float(iterate.images[2, 0, 0, 0]) for iterate in iterates] == [0.5, 0.625, 0.75]


def test_the_result_has_the_memory_format_of_the_start():
    images = images_away_from_the_edges().to(memory_format=torch.channels_last)
    attack = pgd(norm="L1", epsilon=1.0, steps=1, step_size=0.5, sparsity=0.1, start="zero")
    found = search(lambda x: x.flatten(1).sum(1), images, attack, start=images)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_network_in_training_mode_can_be_searched():
    """Training attacks in whatever mode it wants; the loop does not touch it."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    network.train()
    images = images_away_from_the_edges()
    attack = pgd(epsilon="8/255", steps=1, step_size="8/255", start="zero")
    search(lambda x: network(x)[:, 0], images, attack, start=images)
    assert network.training

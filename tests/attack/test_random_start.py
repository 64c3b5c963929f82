"""Starts: random numbers that belong to an image, uniform in the ball."""

import pytest
import torch
from scipy import stats

from surgery.attack import NORMS, pgd, random_start
from surgery.attack.random_start import ImageGenerator, image_keys, uniform_numbers

ATTACKS = {
    "Linf": pgd(epsilon=0.1, steps=1, step_size=0.1),
    "L2": pgd(norm="L2", epsilon=0.5, steps=1, step_size=0.1),
    "L1": pgd(norm="L1", epsilon=3.0, steps=1, step_size=0.1, sparsity=0.1),
}


def own_start(images, attack, keys, *, seed, restart):
    return random_start(images, attack, ImageGenerator(keys, seed=seed).stream(restart))


def images(count=40):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_starts_do_not_depend_on_batch_order_or_size(attack):
    x = images()
    keys = image_keys(x)
    together = own_start(x, attack, keys, seed=3, restart=1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(own_start(x[order], attack, keys[order], seed=3, restart=1), together[order])
    for size in (1, 7):
        parts = [own_start(part, attack, image_keys(part), seed=3, restart=1) for part in x.split(size)]
        assert torch.equal(torch.cat(parts), together)


def test_keys_do_not_depend_on_the_memory_format():
    x = images()
    assert torch.equal(image_keys(x.to(memory_format=torch.channels_last)), image_keys(x))


def test_keys_differ_for_images_that_differ_in_one_pixel_or_in_its_place():
    x = torch.zeros(50, 3, 8, 8)
    x.view(50, -1)[torch.arange(50), torch.arange(50)] = 1 / 255
    assert len(image_keys(x).unique()) == 50
    assert torch.equal(image_keys(-torch.zeros(1, 4)), image_keys(torch.zeros(1, 4)))


def test_seeds_restarts_and_images_give_different_starts():
    x, attack = images(2), ATTACKS["Linf"]
    keys = image_keys(x)
    starts = [own_start(x, attack, keys, seed=seed, restart=restart) - x for seed in (0, 1) for restart in (0, 1)]
    noise = torch.cat(starts).flatten(1)
    correlations = torch.corrcoef(noise) - torch.eye(8)
    assert float(correlations.abs().max()) < 0.35  # 8 pairs of 192 independent numbers each


def test_the_numbers_are_these():
    """SplitMix64's finalizer in whole numbers: another machine and another version give the same starts."""

    def mix(number):
        number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) % 2**64
        return number ^ (number >> 31)

    golden, keys = 0x9E3779B97F4A7C15, [0, 1, -1]
    constant = mix((mix(golden + 7) + golden + 2) % 2**64)
    expected = []
    for key in keys:
        state = mix((key + constant) % 2**64)
        expected.append([((mix((state + j * golden) % 2**64) >> 41) + 0.5) / 2**23 for j in (1, 2, 3)])
    assert uniform_numbers(torch.tensor(keys), 3, seed=7, stream=(2,)).tolist() == expected


def test_the_numbers_are_uniform():
    numbers = uniform_numbers(torch.arange(100), 500, seed=0, stream=(0,))
    assert float(numbers.min()) > 0
    assert float(numbers.max()) < 1
    assert stats.kstest(numbers.flatten().double().numpy(), "uniform").pvalue > 0.01
    pairs = torch.corrcoef(torch.stack([numbers[:, :-1].flatten(), numbers[:, 1:].flatten()]))
    assert abs(float(pairs[0, 1])) < 0.02


@pytest.mark.parametrize("name", ATTACKS)
def test_starts_are_in_the_ball_and_the_range(name):
    attack, x = ATTACKS[name], images()
    for start in (
        own_start(x, attack, image_keys(x), seed=0, restart=0),
        random_start(x, attack, torch.Generator().manual_seed(0)),
    ):
        assert bool(((start >= 0) & (start <= 1)).all())
        distances = NORMS[name].distance(start - x)
        assert float(distances.max()) <= attack.epsilon * (1 + 1e-5)
        assert float(distances.mean()) > 0.5 * attack.epsilon


def test_linf_starts_are_uniform_away_from_the_edges():
    x = torch.full((20, 3, 8, 8), 0.5)
    start = random_start(x, ATTACKS["Linf"], torch.Generator().manual_seed(0))
    assert stats.kstest(((start - 0.4) / 0.2).flatten().double().numpy(), "uniform").pvalue > 0.01


def test_one_generator_draws_all_starts_of_a_batch():
    x, attack = images(), ATTACKS["L2"]
    first, second = (random_start(x, attack, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(4)
    assert not torch.equal(random_start(x, attack, generator), random_start(x, attack, generator))


def test_a_start_at_zero_is_the_image_and_draws_nothing():
    attack = pgd(epsilon=0.1, steps=1, step_size=0.1, start="zero")
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    x = images()
    assert torch.equal(random_start(x, attack, generator), x)
    assert torch.equal(own_start(x, attack, image_keys(x), seed=0, restart=0), x)
    assert torch.equal(generator.get_state(), before)


def test_the_global_random_state_is_not_used():
    state = torch.get_rng_state()
    own_start(images(), ATTACKS["L1"], image_keys(images()), seed=0, restart=0)
    assert torch.equal(torch.get_rng_state(), state)


def generator(count=40, **arguments):
    return ImageGenerator(image_keys(images(count)), seed=arguments.pop("seed", 0), **arguments)


DRAWS = {
    "uniform": lambda source: source.uniform(3, 4),
    "normal": lambda source: source.normal(3, 4),
    "integers": lambda source: source.integers(-2, 5, 3, 4),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_an_image_gets_the_same_numbers_in_every_batch(draw):
    together, order = generator(), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    part = generator()[order[:7]]
    first, second = draw(together), draw(together)
    assert first.shape == (40, 3, 4)
    assert torch.equal(draw(part), first[order[:7]])
    assert torch.equal(draw(part), second[order[:7]])
    assert not torch.equal(first, second)


def test_rows_that_are_left_continue_where_the_batch_was():
    source, whole = generator(), generator()
    source.uniform(2)
    whole.uniform(2)
    standing = torch.arange(40) % 3 == 0
    assert torch.equal(source[standing].uniform(5), whole.uniform(5)[standing])
    assert len(source[standing]) == 14


def test_streams_do_not_depend_on_earlier_calls():
    source = generator()
    before = source.stream(3).uniform(4)
    source.uniform(9)
    assert torch.equal(source.stream(3).uniform(4), before)
    second = source.stream(3)
    second.uniform(4)
    others = [source.stream(2), source.stream(3, 1), second, source]
    assert all(not torch.equal(other.uniform(4), before) for other in others)
    # The second call of a stream has numbers that no stream of a caller has.
    assert not torch.equal(second.uniform(4), generator().stream(3, 1).uniform(4))


def test_normal_numbers_are_normal_and_integers_uniform():
    normal = generator().normal(500).flatten().double().numpy()
    assert stats.kstest(normal, "norm").pvalue > 0.01
    counts = torch.bincount(generator().integers(2, 7, 500).flatten() - 2, minlength=5)
    assert len(counts) == 5
    assert stats.chisquare(counts.numpy()).pvalue > 0.01

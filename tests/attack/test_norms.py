"""Laws of the norms: projections stay and are idempotent, steps have their length, balls are filled uniformly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from surgery.attack import NORMS

SIZES = {"Linf": (0.0, 0.5), "L2": (0.0, 3.0), "L1": (0.0, 20.0)}


@st.composite
def points(draw):
    """Images in [0, 1], often at its edges, and points that are anywhere."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    images = torch.rand(3, 2, 4, 4, generator=generator)
    images = (images * draw(st.sampled_from([1.0, 3.0])) - draw(st.sampled_from([0.0, 1.0]))).clamp(0, 1)
    scale = draw(st.sampled_from([0.01, 0.3, 5.0]))
    return images, images + scale * torch.randn(images.shape, generator=generator)


def size_of(name, share):
    low, high = SIZES[name]
    return low + share * (high - low)


@pytest.mark.parametrize("name", NORMS)
@settings(max_examples=60, deadline=None)
@given(points(), st.floats(0, 1))
def test_projections_end_within_epsilon_and_the_range_and_stay_there(name, given_points, share):
    images, anywhere = given_points
    norm, epsilon = NORMS[name], size_of(name, share)
    once = norm.project(anywhere, images, epsilon)
    assert bool(((once >= 0) & (once <= 1)).all())
    # Rounding of x + d in float32, for each of the 32 pixels.
    assert float(norm.distance(once.double() - images.double()).max()) <= epsilon + 32 * 6e-8
    torch.testing.assert_close(norm.project(once, images, epsilon), once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
@settings(max_examples=60, deadline=None)
@given(points(), st.floats(0.01, 1))
def test_projections_leave_what_is_within_epsilon_alone(name, given_points, share):
    images, anywhere = given_points
    norm, epsilon = NORMS[name], size_of(name, share)
    direction = anywhere.clamp(0, 1) - images
    near = images + 0.99 * direction * (epsilon / norm.distance(direction).clamp_min(epsilon)).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(norm.project(near, images, epsilon), near, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(points(), st.floats(0.01, 1))
def test_the_l1_projection_is_the_nearest_point(given_points, share):
    """No random point of ball and box is nearer, and none on the way to the given point."""
    images, anywhere = given_points
    epsilon = size_of("L1", share)
    norm = NORMS["L1"]
    found = norm.project(anywhere, images, epsilon)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    others = norm.project(found + 0.05 * noise, images, epsilon)
    # For the nearest point p of a convex set, <z - p, q - p> <= 0 for every q in the set.
    products = ((anywhere - found) * (others - found)).flatten(1).double().sum(1)
    assert float(products.max()) <= 1e-4


@pytest.mark.parametrize("name", NORMS)
@settings(max_examples=30, deadline=None)
@given(points(), st.sampled_from([1e-25, 1e-12, 1.0, 1e12]))
def test_directions_have_length_one_and_go_up(name, given_points, scale):
    images, anywhere = given_points
    gradient = scale * (anywhere - images)
    direction = NORMS[name].direction(gradient, images, 0.2 if name == "L1" else None)
    lengths = NORMS[name].distance(direction)
    blocked = ((gradient > 0) & (images >= 1)) | ((gradient < 0) & (images <= 0))
    some = ~blocked.flatten(1).all(1)
    torch.testing.assert_close(lengths[some], torch.ones_like(lengths[some]), rtol=1e-5, atol=0)
    assert bool((direction * gradient >= 0).all())


@pytest.mark.parametrize("name", NORMS)
def test_a_zero_gradient_moves_nothing(name):
    images = torch.full((2, 1, 3, 3), 0.5)
    direction = NORMS[name].direction(torch.zeros_like(images), images, 0.5 if name == "L1" else None)
    assert not bool(direction.any())


def test_an_l1_step_moves_the_largest_gradients_that_can_move():
    images = torch.tensor([[0.5, 1.0, 0.0, 0.5, 0.5]])
    gradient = torch.tensor([[1.0, 9.0, -9.0, -3.0, 2.0]])
    direction = NORMS["L1"].direction(gradient, images, 0.4)
    assert direction.tolist() == [[0.0, 0.0, 0.0, -0.5, 0.5]]


@pytest.mark.parametrize("name", NORMS)
def test_points_are_uniform_in_the_unit_ball(name):
    """The radius to the power of the dimension is uniform, and no direction is preferred."""
    dimensions, count = 6, 4000
    uniform = torch.rand(count, dimensions + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ball = NORMS[name].ball(uniform)
    assert ball.shape == (count, dimensions)
    volumes = NORMS[name].distance(ball) ** dimensions
    assert stats.kstest(volumes.numpy(), "uniform").pvalue > 0.01
    assert float(ball.mean(0).abs().max()) < 0.05
    shares = (ball > 0).double().mean(0)
    assert float((shares - 0.5).abs().max()) < 0.05


def test_diameters_are_the_distance_of_black_and_white():
    white = torch.ones(1, 3, 4, 4)
    for norm in NORMS.values():
        assert float(norm.distance(white)) == pytest.approx(norm.diameter(48))

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surgery.errors import InputError
from surgery.linear.correlation import correlate, spectrum

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


@dataclass
class Map:
    matrix: Tensor


def draw(seed: int, inputs: int = 12, classes: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(inputs, classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_correlations_are_cosines_of_the_columns() -> None:
    matrix = draw(0)
    columns = list(matrix.T)
    expected = torch.stack([torch.stack([torch.cosine_similarity(a, b, dim=0) for b in columns]) for a in columns])
    torch.testing.assert_close(correlate(matrix), expected)
    torch.testing.assert_close(correlate(Map(matrix)), expected)


@few
@given(seed=seeds, center=st.booleans(), dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_every_result_is_a_correlation_matrix(seed: int, center: bool, dtype: torch.dtype) -> None:
    found = correlate(draw(seed, dtype=dtype), center=center)
    assert found.dtype == torch.float64
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), torch.ones(5, dtype=torch.float64))
    assert bool((found.abs() <= 1).all())


@few
@given(seed=seeds, scales=st.lists(st.floats(1e-6, 1e6), min_size=5, max_size=5))
def test_lengths_of_the_weight_vectors_do_not_matter(seed: int, scales: list[float]) -> None:
    matrix = draw(seed)
    scaled = matrix * torch.tensor(scales, dtype=torch.float64)
    torch.testing.assert_close(correlate(scaled), correlate(matrix), rtol=0, atol=1e-12)


@few
@given(seed=seeds, center=st.booleans())
def test_rotating_the_inputs_does_not_matter(seed: int, center: bool) -> None:
    matrix = draw(seed)
    rotation, _ = torch.linalg.qr(draw(seed + 1, 12, 12))
    torch.testing.assert_close(
        correlate(rotation @ matrix, center=center), correlate(matrix, center=center), rtol=0, atol=1e-12
    )


@few
@given(seed=seeds, size=st.floats(0.1, 1e4))
def test_centered_correlations_are_blind_to_a_shared_vector_and_plain_ones_are_not(seed: int, size: float) -> None:
    matrix = draw(seed)
    shifted = matrix + size * draw(seed + 1, 12, 1)
    # Rounding of the sum is 1e-16 of the shared vector, which is up to 1e4 times the rest.
    torch.testing.assert_close(correlate(shifted, center=True), correlate(matrix, center=True), rtol=0, atol=1e-10)
    assert float((correlate(shifted) - correlate(matrix)).abs().max()) > 1e-3


@few
@given(seed=seeds, order=st.permutations(range(5)))
def test_permuting_classes_permutes_the_matrix(seed: int, order: list[int]) -> None:
    matrix = draw(seed)
    torch.testing.assert_close(correlate(matrix[:, order]), correlate(matrix)[order][:, order], rtol=0, atol=1e-14)


def test_slices_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = draw(0, 101, 3)
    whole = correlate(matrix, center=True)
    monkeypatch.setattr("surgery.linear.correlation._SLICE", 20)
    torch.testing.assert_close(correlate(matrix, center=True), whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_scales_whose_squares_are_beyond_float64_are_fine(scale: float) -> None:
    matrix = draw(0)
    torch.testing.assert_close(correlate(matrix * scale), correlate(matrix), rtol=0, atol=1e-14)
    values = spectrum(matrix * scale).singular_values / scale
    torch.testing.assert_close(values, spectrum(matrix).singular_values)


def test_the_input_stays_as_it_is() -> None:
    matrix = draw(0).requires_grad_()
    before = matrix.detach().clone()
    assert not correlate(matrix, center=True).requires_grad
    assert torch.equal(matrix, before)


def test_a_zero_weight_vector_is_an_error_that_names_the_class() -> None:
    matrix = draw(0)
    matrix[:, 3] = 0
    with pytest.raises(InputError, match="weight vector of class 3 is zero"):
        correlate(matrix)
    assert correlate(matrix, center=True).shape == (5, 5)


def test_a_weight_vector_that_is_the_mean_is_an_error_only_when_centered() -> None:
    matrix = draw(0, classes=3)
    matrix[:, 1] = (matrix[:, 0] + matrix[:, 2]) / 2
    with pytest.raises(InputError, match="class 1 is the mean of all"):
        correlate(matrix, center=True)
    correlate(matrix)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_an_error_that_names_the_class(value: float) -> None:
    matrix = draw(0)
    matrix[4, 2] = value
    for function in (correlate, spectrum):
        with pytest.raises(InputError, match="class 2 is not finite"):
            function(matrix)


@pytest.mark.parametrize("matrix", [torch.ones(3), torch.ones(0, 3), torch.ones(2, 2, dtype=torch.int64)])
def test_what_is_no_matrix_is_an_error(matrix: Tensor) -> None:
    with pytest.raises(InputError, match=r"matrix \(input values, classes\)"):
        correlate(matrix)


@pytest.mark.parametrize("shape", [(12, 5), (3, 5)])
def test_singular_values_are_those_of_w(shape: tuple[int, int]) -> None:
    matrix = draw(0, *shape)
    torch.testing.assert_close(spectrum(matrix).singular_values, torch.linalg.svdvals(matrix))


@few
@given(rank=st.integers(1, 5), seed=seeds, scale=st.floats(1e-3, 1e3))
def test_equal_singular_values_have_their_number_for_both_ranks(rank: int, seed: int, scale: float) -> None:
    left, _ = torch.linalg.qr(draw(seed, 12, rank))
    right, _ = torch.linalg.qr(draw(seed + 1, 5, rank))
    found = spectrum(scale * left @ right.T)
    assert found.stable_rank == pytest.approx(rank)
    assert found.effective_rank == pytest.approx(rank, rel=1e-5)  # zeros come out as 1e-8 of the largest


@few
@given(seed=seeds)
def test_ranks_lie_between_one_and_the_rank(seed: int) -> None:
    found = spectrum(draw(seed))
    assert 1 <= found.stable_rank <= found.effective_rank <= 5


def test_effective_rank_is_the_entropy_of_the_singular_values() -> None:
    found = spectrum(torch.diag(torch.tensor([3.0, 1.0])))
    shares = [0.75, 0.25]
    assert found.effective_rank == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert found.stable_rank == pytest.approx(10 / 9)


def test_the_spectrum_of_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="W is zero"):
        spectrum(torch.zeros(4, 3))
    with pytest.raises(InputError, match="once the mean over classes is subtracted"):
        spectrum(torch.full((4, 3), 0.1), center=True)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (7, 7), (1, 9)])
def test_the_spectrum_of_more_classes_than_input_values_is_that_of_numpy(shape: tuple[int, int], center: bool) -> None:
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centered = W - W.mean(dim=1, keepdim=True) if center else W
    expected = np.linalg.svd(centered.numpy(), compute_uv=False)
    found = spectrum(W, center=center).singular_values
    assert len(found) == min(shape)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6 * expected[0])


def test_undefined_correlations_are_nan_on_request() -> None:
    W = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    W[:, 2] = 0.0
    found = correlate(W, undefined="nan")
    kept = [0, 1, 3]
    assert torch.equal(found[kept][:, kept], correlate(W[:, kept]))
    assert found[2].isnan().all()
    assert found[:, 2].isnan().all()
    with pytest.raises(InputError, match="the weight vector of class 2 is zero"):
        correlate(W)
    assert correlate(W[:, :1], center=True, undefined="nan").isnan().all()

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surgery.errors import InputError
from surgery.hierarchy import (
    Hierarchy,
    adjusted_mutual_information,
    adjusted_rand_index,
    block_contrast,
    cluster,
    named,
)
from surgery.hierarchy.permutation import _sums_within, all_partitions, count_partitions, p_value
from surgery.linear.correlation import correlate

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)
labels = st.lists(st.integers(0, 3), min_size=2, max_size=12)
REFERENCE = named("cifar10")
NAMES = REFERENCE.class_names


def weights(seed: int, *, shared: float, inputs: int = 300) -> Tensor:
    """W `(inputs, 10)`: random vectors, and `shared` of one that all classes of a superclass of CIFAR-10 have."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randn(inputs, 2, generator=generator)
    return torch.randn(inputs, 10, generator=generator) + shared * groups[:, REFERENCE.superclass]


@pytest.mark.parametrize("center", [False, True])
def test_a_planted_hierarchy_is_found_and_significant(center: bool) -> None:
    C = correlate(weights(0, shared=2.0), center=center)
    found = cluster(C, class_names=REFERENCE.class_names)
    scores = found.scores(C, REFERENCE)
    assert found.superclass == REFERENCE.superclass
    assert scores.adjusted_rand_index == scores.adjusted_mutual_information == 1
    assert scores.block_contrast > 0.7
    assert scores.p_value == 1 / 210  # of the 210 ways to choose four classes of ten, one is as good
    assert scores.cophenetic_correlation is not None
    assert scores.cophenetic_correlation > 0.9


@pytest.mark.parametrize("center", [False, True])
def test_random_weights_show_no_hierarchy(center: bool) -> None:
    values = []
    for seed in range(40):
        C = correlate(weights(seed, shared=0.0), center=center)
        values.append(cluster(C, class_names=NAMES).scores(C, REFERENCE).p_value)
    assert sum(value < 0.05 for value in values) <= 6  # more than six of 40 has a chance of one in a hundred
    assert 0.35 < np.mean(values) < 0.65  # three standard errors of the mean of 40 uniform values


def test_shared_features_score_higher_than_separate_ones() -> None:
    """As adversarial training against standard training: the same classes, more or less of what siblings share."""
    robust, standard = (correlate(weights(0, shared=shared)) for shared in (1.5, 0.1))
    scores = [cluster(C, class_names=NAMES).scores(C, REFERENCE) for C in (robust, standard)]
    assert scores[0].block_contrast > scores[1].block_contrast + 0.3
    assert scores[0].adjusted_rand_index == 1 > scores[1].adjusted_rand_index
    assert scores[0].p_value < 0.05


@few
@given(seed=seeds, order=st.permutations(range(10)))
def test_scores_do_not_depend_on_the_order_of_classes(seed: int, order: list[int]) -> None:
    C = correlate(weights(seed, shared=0.5))
    reference = REFERENCE.for_classes([REFERENCE.class_names[label] for label in order])
    here = cluster(C, class_names=REFERENCE.class_names).scores(C, REFERENCE)
    D = C[order][:, order]
    there = cluster(D, class_names=reference.class_names).scores(D, reference)
    for name in ("adjusted_rand_index", "adjusted_mutual_information", "block_contrast", "p_value"):
        assert getattr(here, name) == pytest.approx(getattr(there, name))
    assert here.cophenetic_correlation == pytest.approx(there.cophenetic_correlation)


def test_block_contrast_leaves_the_diagonal_out() -> None:
    C = torch.tensor([[1.0, 0.8, 0.1], [0.8, 1.0, -0.3], [0.1, -0.3, 1.0]])
    assert block_contrast(C, (0, 0, 1)) == pytest.approx(0.8 - (-0.1))
    exact = named("cifar10").block_matrix
    assert block_contrast(exact, REFERENCE.superclass) == 2


@pytest.mark.parametrize("method", ["average", "complete", "single", "ward"])
def test_cophenetic_correlation_is_scipys(method) -> None:
    from scipy.cluster.hierarchy import cophenet
    from scipy.spatial.distance import squareform

    C = correlate(weights(0, shared=0.5))
    found = cluster(C, method=method, class_names=NAMES)
    distance = (1 - C.numpy()) if method != "ward" else np.sqrt(2 - 2 * C.numpy())
    expected, _ = cophenet(np.array(found.merges), squareform(distance, checks=False))
    assert found.scores(C, REFERENCE).cophenetic_correlation == pytest.approx(expected)


def test_there_is_no_cophenetic_correlation_without_a_dendrogram_or_variation() -> None:
    C = correlate(weights(0, shared=0.5))
    assert cluster(C, method="spectral", class_names=NAMES).scores(C, REFERENCE).cophenetic_correlation is None
    flat = torch.eye(10)
    assert cluster(flat, class_names=NAMES).scores(flat, REFERENCE).cophenetic_correlation is None


PARTITIONS = [
    ([0, 0, 1, 1], [0, 0, 1, 1], 1.0, 1.0),
    ([0, 0, 1, 1], [1, 1, 0, 0], 1.0, 1.0),
    ([0, 0, 0, 0], [0, 1, 2, 3], 0.0, 0.0),
    ([0, 0, 1, 2], [0, 0, 1, 1], 4 / 7, 4 / 7),
    ([0, 0, 1, 1], [0, 1, 0, 1], -0.5, -0.5),
    ([0, 0, 0], [5, 5, 5], 1.0, 1.0),
    ([0, 1, 2], [2, 1, 0], 1.0, 1.0),
    ([1], [0], 1.0, 1.0),
]


@pytest.mark.parametrize(("first", "second", "rand", "information"), PARTITIONS)
def test_agreement_of_partitions_is_known(first: list[int], second: list[int], rand: float, information: float) -> None:
    assert adjusted_rand_index(first, second) == pytest.approx(rand)
    assert adjusted_mutual_information(first, second) == pytest.approx(information, abs=1e-12)


@few
@given(first=labels, data=st.data())
def test_agreement_of_partitions_is_that_of_scikit_learn(first: list[int], data: st.DataObject) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    second = data.draw(st.lists(st.integers(0, 3), min_size=len(first), max_size=len(first)))
    assert adjusted_rand_index(first, second) == pytest.approx(metrics.adjusted_rand_score(first, second))
    expected = metrics.adjusted_mutual_info_score(first, second)
    assert adjusted_mutual_information(first, second) == pytest.approx(expected, abs=1e-9)


def test_expected_agreement_is_none() -> None:
    """Both indices are zero on average over all orders of one partition: that is what adjusting means."""
    first, second = (0, 0, 1, 1, 2, 2), (0, 0, 0, 1, 1, 2)
    for index in (adjusted_rand_index, adjusted_mutual_information):
        assert np.mean([index(first, order) for order in set(permutations(second))]) == pytest.approx(0, abs=1e-12)


def test_labels_of_different_classes_are_an_error() -> None:
    with pytest.raises(InputError, match="got 2 and 3 labels"):
        adjusted_rand_index([0, 1], [0, 1, 1])


@pytest.mark.parametrize("sizes", [(3, 2), (2, 2, 2), (1, 1, 3), (4, 1, 2), (1, 1, 1)])
def test_every_partition_is_tried_once(sizes: tuple[int, ...]) -> None:
    starts = np.cumsum((0, *sizes))
    groups = tuple(tuple(range(a, b)) for a, b in pairwise(starts))
    tried = [frozenset(map(frozenset, partition)) for partition in all_partitions(groups)]
    assert len(tried) == len(set(tried)) == count_partitions(sizes)
    assert all(sorted(map(len, partition)) == sorted(sizes) for partition in tried)


@few
@given(seed=seeds)
def test_drawing_relabelings_comes_near_to_trying_all(seed: int) -> None:
    C = correlate(weights(seed, shared=0.1)).numpy()
    exact, drawn = (p_value(C, REFERENCE.groups, permutations=count, generator=None) for count in (210, 209))
    many = p_value(C, REFERENCE.groups, permutations=209, generator=torch.Generator().manual_seed(seed))
    for found in (drawn, many):
        assert abs(found - exact) < 5 * math.sqrt(exact / 209) + 1 / 210


@pytest.mark.parametrize("sizes", [(4, 6), (1, 2, 3, 4), (30, 1, 1), (2,) * 20])
def test_products_and_single_pairs_give_the_same_sums(sizes: tuple[int, ...]) -> None:
    classes = sum(sizes)
    C = np.corrcoef(np.random.default_rng(0).normal(size=(classes, 50)))
    starts = np.cumsum((0, *sizes))
    groups = tuple(tuple(range(a, b)) for a, b in pairwise(starts.tolist()))
    orders = np.stack([np.random.default_rng(seed).permutation(classes) for seed in range(5)])
    expected = [sum(C[order[i], order[j]] for g in groups for i in g for j in g if i < j) for order in orders]
    np.testing.assert_allclose(_sums_within(C, groups, orders), expected, atol=1e-12)


def test_relabelings_that_are_drawn_repeat_and_never_give_zero() -> None:
    reference = Hierarchy.of_labels([0] * 15 + [1] * 15, method="test")
    C = reference.block_matrix
    state = torch.get_rng_state()
    found = [cluster(C).scores(C, reference, permutations=99).p_value for _ in range(2)]
    assert found == [1 / 100] * 2
    assert torch.equal(torch.get_rng_state(), state)


def test_references_of_other_classes_are_an_error() -> None:
    C = torch.eye(10)
    with pytest.raises(InputError, match="the hierarchy has no class 'automobile'"):
        cluster(C, class_names=NAMES).scores(C, named("stl10"))
    with pytest.raises(InputError, match="the hierarchy has no class 'airplane'"):
        cluster(C, class_names=NAMES).scores(C, named("cifar100"))
    with pytest.raises(InputError, match="C has 9 classes: expected 10, as in the hierarchy"):
        cluster(C, class_names=NAMES).scores(torch.eye(9), REFERENCE)


def test_references_are_matched_by_name_whatever_their_order() -> None:
    shuffled = REFERENCE.for_classes(sorted(NAMES, key=lambda name: name[::-1]))
    assert shuffled.class_names != NAMES
    animals = ("bird", "cat", "deer", "dog", "frog", "horse", "unicorn")
    more = Hierarchy.of_groups({"animals": animals, "rest": sorted(set(NAMES) - set(animals))}, method="test")
    for reference in (shuffled, more):
        scores = cluster(REFERENCE.block_matrix, class_names=NAMES).scores(REFERENCE.block_matrix, reference)
        assert scores.adjusted_rand_index == 1.0
        assert scores.block_contrast == 2.0


def test_classes_without_names_are_refused_by_a_reference_with_names() -> None:
    C = REFERENCE.block_matrix
    with pytest.raises(InputError, match="the classes have no names, only the numbers 0 to 9, but the hierarchy names"):
        cluster(C).scores(C, REFERENCE)
    numbers = Hierarchy.of_labels(REFERENCE.superclass, method="by label")
    assert cluster(C, class_names=NAMES).scores(C, numbers).adjusted_rand_index == 1.0


def test_classes_without_weights_are_left_out_of_the_block_contrast() -> None:
    C = torch.tensor([[1.0, 0.8, 0.1], [0.8, 1.0, -0.3], [0.1, -0.3, 1.0]])
    padded = torch.full((4, 4), torch.nan)
    padded[1:, 1:] = C
    assert block_contrast(padded, (1, 0, 0, 1)) == block_contrast(C, (0, 0, 1))
    padded[0, 0] = 1.0
    with pytest.raises(InputError, match="the correlation of classes 0 and 1, nan, is not finite"):
        block_contrast(padded, (1, 0, 0, 1))


def test_references_that_cannot_show_are_an_error() -> None:
    C = torch.eye(4)
    with pytest.raises(InputError, match="all classes in one superclass"):
        cluster(C).scores(C, Hierarchy.of_labels([0] * 4, method="test"))
    with pytest.raises(InputError, match="every class in a superclass of its own"):
        block_contrast(C, (0, 1, 2, 3))
    with pytest.raises(InputError, match="at least one permutation; got 0"):
        cluster(C).scores(C, Hierarchy.of_labels([0, 0, 1, 1], method="test"), permutations=0)

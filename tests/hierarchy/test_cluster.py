from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surgery.errors import InputError
from surgery.hierarchy import METHODS, adjusted_rand_index, cluster
from surgery.hierarchy.clustering import silhouette
from surgery.hierarchy.matrix import correlations

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None)


def planted(labels: list[int], *, seed: int = 0, own: float = 0.5, shared: float = 0.0, inputs: int = 400) -> Tensor:
    """C of weight vectors that are their superclass's direction, `own` of their own and `shared` of one for all."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randn(inputs, max(labels) + 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(inputs, len(labels), generator=generator, dtype=torch.float64)
    offset = torch.randn(inputs, 1, generator=generator, dtype=torch.float64)
    return torch.corrcoef((groups[:, labels] + own * noise + shared * offset).T)


def random(seed: int, classes: int = 9) -> Tensor:
    return planted([0] * classes, seed=seed, own=1e6, inputs=20)


CIFAR = [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
PARTITIONS = [CIFAR, [0, 1, 2] * 3, [0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 2, 2, 1, 3, 3, 0, 1, 2, 3]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labels", PARTITIONS)
@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_planted_superclasses_are_found_by_every_method_and_choice(
    method: Any, labels: list[int], shared: float
) -> None:
    C = planted(labels, shared=shared)
    wanted = cluster(C, superclasses=max(labels) + 1, method=method)
    assert adjusted_rand_index(wanted.superclass, labels) == 1
    assert wanted.method == method
    assert cluster(C, superclasses="gap", method=method).superclass == wanted.superclass
    assert cluster(C, superclasses="silhouette", method=method).superclass == wanted.superclass


@pytest.mark.parametrize("method", METHODS)
def test_exact_blocks_are_found_exactly(method: Any) -> None:
    labels = torch.tensor(CIFAR)
    C = torch.where(labels[:, None] == labels, 1.0, -1.0)
    found = cluster(C, method=method)
    assert list(found.superclass) == CIFAR
    assert torch.equal(found.block_matrix, C.double())


@few
@given(seed=seeds, order=st.permutations(range(9)), choice=st.sampled_from([2, 3, 5, "gap", "silhouette"]))
@pytest.mark.parametrize("method", METHODS)
def test_permuting_classes_permutes_the_result(method: Any, seed: int, order: list[int], choice: Any) -> None:
    C = random(seed)
    found = cluster(C, superclasses=choice, method=method)
    permuted = cluster(C[order][:, order], superclasses=choice, method=method)
    assert adjusted_rand_index([found.superclass[label] for label in order], permuted.superclass) == 1


@few
@given(seed=seeds, count=st.integers(1, 9))
@pytest.mark.parametrize("method", METHODS)
def test_as_many_superclasses_come_as_were_asked_for(method: Any, seed: int, count: int) -> None:
    assert cluster(random(seed), superclasses=count, method=method).num_superclasses == count


@pytest.mark.parametrize("method", METHODS)
def test_classes_that_are_all_alike_still_make_the_number_asked_for(method: Any) -> None:
    for C in (torch.eye(6), torch.ones(6, 6), 2 * torch.eye(6) - 1):
        for count in range(1, 7):
            assert cluster(C, superclasses=count, method=method).num_superclasses == count
        assert cluster(C, superclasses="gap", method=method) == cluster(C, superclasses="gap", method=method)


@few
@given(seed=seeds, method=st.sampled_from(METHODS[:-1]))
def test_cutting_by_number_is_what_scipy_does_where_heights_differ(seed: int, method: Any) -> None:
    from scipy.cluster.hierarchy import fcluster

    found = cluster(random(seed), superclasses=4, method=method)
    labels = fcluster(np.array(found.merges), 4, criterion="maxclust")
    assert adjusted_rand_index(found.superclass, labels.tolist()) == 1


@few
@given(seed=seeds)
def test_superclasses_of_a_dendrogram_are_nested(seed: int) -> None:
    C = random(seed)
    levels = [cluster(C, superclasses=count).superclass for count in range(1, 10)]
    for coarse, fine in pairwise(levels):
        assert len(set(zip(coarse, fine, strict=True))) == max(fine) + 1


def test_two_classes_are_two_superclasses() -> None:
    for choice in (2, "gap", "silhouette"):
        for method in METHODS:
            assert cluster(torch.eye(2), superclasses=choice, method=method).superclass == (0, 1)  # pyright: ignore[reportArgumentType]


def test_class_names_come_through() -> None:
    assert cluster(torch.eye(3), class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="C has 3 classes: expected as many class names, got 2"):
        cluster(torch.eye(3), class_names=["a", "b"])


def test_lists_arrays_and_tensors_are_taken_and_left_as_they_are() -> None:
    C = planted(CIFAR).float()
    before = C.clone()
    assert cluster(C) == cluster(C.numpy()) == cluster(C.tolist())
    assert torch.equal(C, before)


def test_small_asymmetry_of_float32_is_rounding() -> None:
    C = torch.tensor([[1.0, 0.5], [0.5 + 1e-6, 1 + 1e-6]])
    assert np.array_equal(correlations(C), correlations(C).T)
    assert correlations(C)[1, 1] == 1


@pytest.mark.parametrize("classes", [4, 9])
def test_silhouettes_are_those_by_hand(classes: int) -> None:
    distance = 1 - random(0, classes).numpy()
    labels = np.array([0, 1, 1, 0, 0, 2, 1, 2, 3])[:classes]
    widths = []
    for i in range(classes):
        means = {g: distance[i, (labels == g) & (np.arange(classes) != i)] for g in set(labels.tolist())}
        a, b = means.pop(labels[i]), min(values.mean() for g, values in means.items() if g != labels[i])
        widths.append((b - a.mean()) / max(a.mean(), b) if len(a) else 0)
    assert silhouette(distance, labels) == pytest.approx(np.mean(widths))


BAD = {
    "rectangular": (torch.ones(2, 3), r"is \(classes, classes\); got shape \(2, 3\)"),
    "empty": (torch.ones(0, 0), r"got shape \(0, 0\)"),
    "one class": (torch.ones(1, 1), "at least two classes"),
    "nan": (torch.tensor([[1, torch.nan], [torch.nan, 1]]), "classes 0 and 1, nan, is not finite"),
    "asymmetric": (torch.tensor([[1, 0.1], [0.2, 1]]), "classes 0 and 1, 0.1, differs from its mirror image"),
    "covariance": (torch.tensor([[4, 2.0], [2, 4]]), r"classes 0 and 0, 4, is outside \[-1, 1\]"),
    "distance": (torch.tensor([[0, 0.5], [0.5, 0]]), "classes 0 and 0, 0, is not 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_correlation_matrix_is_an_error(name: str) -> None:
    C, message = BAD[name]
    with pytest.raises(InputError, match=message):
        cluster(C)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "avrage"}, r"unknown method 'avrage'(.|\n)*did you mean 'average'"),
        ({"superclasses": "gaps"}, r"got 'gaps'(.|\n)*did you mean 'gap'"),
        ({"superclasses": 0}, "3 classes make 1 to 3 superclasses, not 0"),
        ({"superclasses": 4}, "not 4"),
        ({"superclasses": 2.0}, "got 2.0"),
        ({"superclasses": True}, "got True"),
    ],
)
def test_unknown_options_are_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cluster(torch.eye(3), **options)

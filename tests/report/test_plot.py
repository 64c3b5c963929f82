"""`surgery.plot`: figures from results of every form, with the class names that come with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import surgery
from surgery import plot
from surgery.errors import InputError
from surgery.hierarchy import named
from surgery.linear import LinearMap, extract, linearize
from surgery.report import figures
from surgery.stages.extract import linear_group
from surgery.store import Group, write_group

NAMES = named("cifar10").class_names


@pytest.fixture(scope="module")
def map() -> LinearMap:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, 10))
    return extract(linearize(network, torch.zeros(1, 3, 4, 4)), class_names=NAMES)


@pytest.fixture(scope="module")
def group(map: LinearMap) -> Group:
    assert map.certificate is not None
    return linear_group(map, certificate=map.certificate, class_names=NAMES, provenance={})


@pytest.fixture(scope="module")
def dataset(group: Group, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("store") / "W.h5"
    write_group(path, group)
    return surgery.load(path)["linear"].load()


def shown(figure: Figure) -> tuple[list[str], np.ndarray]:
    """The names of the rows, and the matrix as it is drawn."""
    axes = figure.axes[0]
    return [tick.get_text() for tick in axes.get_yticklabels()], np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("centered", [False, True])
def test_correlations_of_a_map_a_group_a_dataset_and_an_array_are_the_same_figure(
    map, group, dataset, centered
) -> None:
    variable = "correlation_centered" if centered else "correlation"
    sources = [map, group, dataset, dataset[variable]]
    drawn = [shown(plot.correlation(source, centered=centered)) for source in sources]
    drawn.append(shown(plot.correlation(group[variable], NAMES, centered=centered)))
    for names, matrix in drawn:
        assert names == list(NAMES)
        np.testing.assert_array_equal(matrix, drawn[0][1])
    assert shown(plot.correlation(group[variable]))[0] == [str(label) for label in range(10)]


def test_a_hierarchy_by_name_orders_the_classes(map: LinearMap) -> None:
    names, _ = shown(plot.correlation(map, hierarchy="cifar10"))
    known = named("cifar10")
    expected = [NAMES[label] for members in known.groups for label in members]
    assert names == expected
    assert shown(plot.correlation(map, hierarchy=known, order="label"))[0] == list(NAMES)


@pytest.mark.parametrize("function", [plot.weights, plot.spectrum])
def test_weights_and_spectrum_of_every_form(function: Callable[..., Figure], map, group, dataset) -> None:
    for source in (map, group, dataset):
        figure = function(source, title="T")
        assert len(figure.axes) == (10 if function is plot.weights else 1)


def test_other_figures_of_arrays() -> None:
    share = np.full((3, 3), 0.25)
    assert shown(plot.confusion(share, ("a", "b", "c"), highest=0.5))[0] == ["a", "b", "c"]
    assert shown(plot.feature_distance(torch.tensor(share)))[0] == ["0", "1", "2"]
    C = 0.5 * np.eye(4) + 0.5
    assert len(plot.dendrogram(C, surgery.cluster(C, class_names=tuple("abcd"))).axes) > 0
    assert isinstance(plot.history({"loss": [1.0, 0.5]}), Figure)
    with pytest.raises(InputError, match="unknown series 'los'"):
        plot.history({"los": [1.0]})


class Confused:
    """Anything with a matrix M, such as a `Confusion`."""

    matrix = torch.full((2, 2), 0.5)


def test_a_confusion_is_drawn_as_its_matrix() -> None:
    assert shown(plot.confusion(Confused(), ("a", "b")))[0] == ["a", "b"]


@pytest.mark.parametrize("given", ["W.h5", Path("W.h5"), None, 3])
def test_other_objects_are_refused(given: object) -> None:
    with pytest.raises(InputError, match="expected an array, a LinearMap, a group of a store or its dataset, got"):
        plot.correlation(given)


def test_a_group_without_the_matrix_is_refused(group: Group, dataset: Any) -> None:
    for source in (group, dataset):
        with pytest.raises(InputError, match="has no 'confusion'; it has weight, bias"):
            plot.confusion(source)


def test_saving_and_the_rest_come_from_the_report(tmp_path: Path, map: LinearMap) -> None:
    assert plot.save(plot.spectrum(map), tmp_path / "spectrum.png").exists()
    assert plot.accuracies is figures.accuracies

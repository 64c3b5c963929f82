from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from surgery.errors import InputError
from surgery.hierarchy import Hierarchy, cluster, named
from surgery.report import figures
from surgery.report.style import fitted_names, text_width

CIFAR10 = named("cifar10")
NAMES = CIFAR10.class_names
FEW = CIFAR10.for_classes(["ship", "cat", "truck", "dog"])
SMALLEST = 6.5

matrix_figures = pytest.mark.parametrize("draw", [figures.correlation, figures.feature_distance, figures.confusion])


def planted(hierarchy: Hierarchy, own: float = 0.9) -> torch.Tensor:
    """C of weight vectors that are their superclass's direction and something of their own."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.randn(60, hierarchy.num_superclasses, generator=generator)
    noise = torch.randn(60, len(hierarchy.class_names), generator=generator)
    return torch.corrcoef(((groups - groups.mean(1, keepdim=True))[:, list(hierarchy.superclass)] + own * noise).T)


def shares(classes: int) -> np.ndarray:
    return np.linspace(0.0, 0.4, classes * classes).reshape(classes, classes)


def heat_map(figure: Figure) -> Axes:
    return figure.axes[0]


def rows(figure: Figure) -> list[str]:
    return [label.get_text() for label in heat_map(figure).get_yticklabels()]


def columns(figure: Figure) -> list[str]:
    return [label.get_text() for label in heat_map(figure).get_xticklabels()]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in heat_map(figure).texts]


def outlines(figure: Figure) -> set[tuple[int, int, int, int]]:
    """First and last row, first and last column of every block that is outlined."""
    found = [c for c in heat_map(figure).collections if c.get_gid() == "superclasses"]
    boxes = [path.get_extents() for collection in found for path in collection.get_paths()]
    return {(round(b.y0 + 0.5), round(b.y1 - 0.5), round(b.x0 + 0.5), round(b.x1 - 0.5)) for b in boxes}


def clipped(figure: Figure) -> bool:
    """Whether anything is beyond the edges of the figure, up to a hundredth of an inch."""
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return box.x0 < -0.01 or box.y0 < -0.01 or box.x1 > width + 0.01 or box.y1 > height + 0.01


@matrix_figures
def test_both_axes_name_the_classes_in_label_order(draw: Callable[..., Figure]) -> None:
    figure = draw(shares(4), FEW.class_names)
    assert rows(figure) == columns(figure) == ["ship", "cat", "truck", "dog"]


@matrix_figures
def test_the_order_of_the_hierarchy_moves_names_and_values_together(draw: Callable[..., Figure]) -> None:
    values, order = shares(4), [0, 2, 1, 3]
    figure = draw(values, FEW.class_names, hierarchy=FEW, order="hierarchy")
    assert rows(figure) == columns(figure) == ["ship", "truck", "cat", "dog"]
    shown = np.asarray(heat_map(figure).images[0].get_array())
    percent = 100 if draw is figures.confusion else 1
    np.testing.assert_array_equal(shown, percent * values[np.ix_(order, order)])


def test_superclasses_in_label_order_are_outlined_where_their_classes_meet() -> None:
    figure = figures.correlation(planted(CIFAR10), NAMES, hierarchy=CIFAR10)
    assert outlines(figure) == {(0, 1, 0, 1), (0, 1, 8, 9), (8, 9, 0, 1), (8, 9, 8, 9), (2, 7, 2, 7)}


def test_superclasses_in_their_own_order_are_outlined_on_the_diagonal() -> None:
    figure = figures.correlation(planted(CIFAR10), NAMES, hierarchy=CIFAR10, order="hierarchy")
    assert outlines(figure) == {(0, 3, 0, 3), (4, 9, 4, 9)}
    assert {"animals", "non-animals"} <= set(texts(figure))


def test_nothing_is_outlined_without_a_hierarchy() -> None:
    assert outlines(figures.correlation(planted(FEW), FEW.class_names)) == set()


def test_scales_do_not_depend_on_the_values() -> None:
    correlation = figures.correlation(0.1 * planted(FEW), FEW.class_names)
    assert heat_map(correlation).images[0].get_clim() == (-1.0, 1.0)
    distance = figures.feature_distance(0.5 * shares(4), FEW.class_names)
    assert heat_map(distance).images[0].get_clim() == (0.0, 1.0)


def test_the_scale_of_confusions_is_in_percent_and_can_be_given() -> None:
    values, names = shares(3), ["a", "b", "c"]
    assert heat_map(figures.confusion(values, names)).images[0].get_clim() == (0.0, 40.0)
    assert heat_map(figures.confusion(0.3 * values, names)).images[0].get_clim() == (0.0, 20.0)
    assert heat_map(figures.confusion(values, names, highest=1.0)).images[0].get_clim() == (0.0, 100.0)


def test_confusions_say_which_axis_is_which() -> None:
    axes = heat_map(figures.confusion(shares(4), FEW.class_names))
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "class after the attack")


def test_zero_is_white_between_two_hues_and_gray_keeps_the_ends_apart() -> None:
    colors = heat_map(figures.correlation(np.eye(2), ["a", "b"])).images[0].get_cmap()
    low, middle, high = (np.asarray(colors(share)[:3]) for share in (0.0, 0.5, 1.0))
    assert middle.min() > 0.95
    assert low[0] > low[2]
    assert high[2] > high[0]
    assert low.mean() - high.mean() > 0.04
    blues = heat_map(figures.correlation(np.eye(2), ["a", "b"], scale="blues")).images[0].get_cmap()
    lightness = [np.mean(blues(share)[:3]) for share in np.linspace(0, 1, 20)]
    assert all(np.diff(lightness) < 0)


@pytest.mark.parametrize(("centered", "word"), [(False, "plain"), (True, "centered")])
def test_which_correlation_is_shown_is_written_on_it(centered: bool, word: str) -> None:
    figure = figures.correlation(np.eye(2), ["a", "b"], centered=centered)
    [bar] = heat_map(figure).child_axes
    assert word in bar.get_xlabel()


def test_values_stand_in_the_cells_of_few_classes_only() -> None:
    small = figures.correlation([[1.0, -0.254, 0], [-0.254, 1, 0.996], [0, 0.996, 1]], ["a", "b", "c"])
    assert texts(small) == ["1", "-.25", "0", "-.25", "1", "1", "0", "1", "1"]
    assert texts(figures.correlation(np.eye(13), [str(label) for label in range(13)])) == []


def test_values_have_fewer_digits_where_cells_are_narrow_and_none_where_nothing_fits() -> None:
    values = np.full((12, 12), -0.25)
    assert texts(figures.correlation(values, [f"class number {n}" for n in range(12)]))[0] == "-.2"
    long = [f"a class with a name that is not short, {n}" for n in range(12)]
    np.fill_diagonal(values, 1.0)
    assert texts(figures.dendrogram(values, cluster(values, class_names=long))) == []


@pytest.mark.parametrize(
    ("data", "order", "width"),
    [
        ("cifar10", "label", "column"),
        ("cifar10", "hierarchy", "page"),
        ("cifar100", "label", "page"),
        ("cifar100", "hierarchy", "column"),
    ],
)
def test_nothing_is_clipped_or_smaller_than_can_be_read(data: str, order: Any, width: Any) -> None:
    hierarchy = named(data)
    C = planted(hierarchy)
    figure = figures.correlation(C, hierarchy.class_names, hierarchy=hierarchy, order=order, width=width, title="T")
    assert not clipped(figure)
    assert figure.get_figwidth() == {"column": 3.3, "page": 6.8}[width]
    assert figure.get_figheight() < 9.0
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    assert min(float(size) for size in sizes) >= SMALLEST


def test_many_classes_are_named_by_superclass_and_else_thinned() -> None:
    hierarchy = named("cifar100")
    C = planted(hierarchy)
    grouped = rows(figures.correlation(C, hierarchy.class_names, hierarchy=hierarchy, order="hierarchy", width="page"))
    assert grouped == list(hierarchy.names or ())
    thinned = figures.correlation(C, hierarchy.class_names)
    places = heat_map(thinned).get_yticks()
    assert rows(thinned) == [hierarchy.class_names[int(place)] for place in places]
    points = heat_map(thinned).get_position().height * thinned.get_figheight() * 72 / 100
    assert 10 < len(places) < 40
    assert np.diff(places).min() * points >= SMALLEST


def test_an_endless_name_does_not_take_the_matrix_away() -> None:
    figure = figures.correlation(np.eye(3), ["a" * 300, "b", "c"])
    assert rows(figure)[0].endswith("…")
    assert heat_map(figure).get_position().width > 0.4
    assert not clipped(figure)


def test_names_are_not_read_as_formulas() -> None:
    names = ["$x^2", "a_b$", "$100$"]
    figure = figures.correlation(np.eye(3), names)
    assert rows(figure) == names
    assert not any(label.get_parse_math() for label in heat_map(figure).get_yticklabels())


@pytest.mark.parametrize("classes", [1, 2])
def test_very_few_classes_can_be_drawn(classes: int, tmp_path: Path) -> None:
    path = figures.save(figures.correlation(np.eye(classes), ["cat", "dog"][:classes]), tmp_path / "C.png", dpi=100)
    assert path.is_file()


def tree(figure: Figure) -> Axes:
    [found] = [axes for axes in heat_map(figure).child_axes if isinstance(axes, Axes) and axes.get_ylim()[0] > 1]
    return found


def test_a_dendrogram_stands_beside_its_rows_with_its_cut() -> None:
    hierarchy = cluster(planted(FEW), superclasses=2, class_names=FEW.class_names)
    figure = figures.dendrogram(planted(FEW), hierarchy)
    assert rows(figure) == ["ship", "truck", "cat", "dog"]
    assert outlines(figure) == {(0, 1, 0, 1), (2, 3, 2, 3)}
    assert tree(figure).get_ylim() == heat_map(figure).get_ylim()
    [cut] = [line for line in tree(figure).lines if line.get_gid() == "cut"]
    heights = [merge[2] for merge in hierarchy.merges or ()]
    assert heights[-2] < float(np.asarray(cut.get_xdata())[0]) < heights[-1]
    colors = [line.get_color() for line in tree(figure).lines[:-1]]
    assert len(colors) == 3
    assert len(set(colors)) == 3
    assert not clipped(figure)


@pytest.mark.parametrize(("method", "superclasses"), [("complete", 1), ("single", 3), ("ward", 4)])
def test_every_linkage_and_number_has_a_dendrogram(method: Any, superclasses: int) -> None:
    hierarchy = cluster(planted(FEW), superclasses=superclasses, method=method)
    figure = figures.dendrogram(planted(FEW), hierarchy)
    assert len(outlines(figure)) == superclasses
    assert [line for line in tree(figure).lines if line.get_gid() == "cut"] or superclasses == 1


def test_superclasses_that_are_no_cut_of_the_dendrogram_have_none_drawn() -> None:
    merges = cluster(planted(FEW), class_names=FEW.class_names).merges
    other = Hierarchy.of_labels([0, 0, 1, 1], class_names=FEW.class_names, merges=merges, method="by hand")
    assert not [line for line in tree(figures.dendrogram(planted(FEW), other)).lines if line.get_gid() == "cut"]


def test_a_hierarchy_without_a_dendrogram_is_refused() -> None:
    with pytest.raises(InputError, match="no dendrogram"):
        figures.dendrogram(planted(CIFAR10), CIFAR10)


@pytest.mark.parametrize("merge", [(0, 7, 1.0, 2), (0, 0, 1.0, 2), (0, 1, float("nan"), 2), (0, 1, -1.0, 2)])
def test_merges_that_are_no_dendrogram_are_refused(merge: Any) -> None:
    broken = Hierarchy(class_names=("a", "b"), superclass=(0, 1), merges=(merge,), method="by hand")
    with pytest.raises(InputError, match="merge"):
        figures.dendrogram(np.eye(2), broken)


def test_weights_are_one_panel_a_class_on_one_symmetric_scale() -> None:
    weight = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    figure = figures.weights(weight, NAMES, title="W")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == list(NAMES)
    [(low, high)] = {axes.images[0].get_clim() for axes in panels}
    assert low == -high < 0
    assert not clipped(figure)


def test_weights_of_color_images_are_gray_at_zero_and_bright_where_positive() -> None:
    weight = np.zeros((2, 3, 4, 4))
    weight[0, 0], weight[1, 2] = 0.5, -9.0
    panels = figures.weights(weight, ["a", "b"], limit=1.0).axes
    np.testing.assert_allclose(np.asarray(panels[0].images[0].get_array())[0, 0], [0.75, 0.5, 0.5])
    np.testing.assert_allclose(np.asarray(panels[1].images[0].get_array())[0, 0], [0.5, 0.5, 0.0])


def test_zero_weights_and_a_hundred_classes_fit_on_a_page() -> None:
    figure = figures.weights(np.zeros((100, 3, 4, 4)), named("cifar100").class_names)
    assert figure.get_figheight() < 10.0
    assert not clipped(figure)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 8, 8), "expected shape"), ((3, 2, 8, 8), "1 or 3 channels"), ((101, 1, 2, 2), "at most 100")],
)
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        figures.weights(np.ones(shape), [str(n) for n in range(shape[0])])


def test_a_spectrum_is_on_a_log_scale_with_its_effective_rank() -> None:
    [axes] = figures.spectrum([4.0, 2.0, 1.0, 0.0], 2.5).axes
    assert axes.get_yscale() == "log"
    [rank] = [line for line in axes.lines if line.get_gid() == "effective rank"]
    assert list(rank.get_xdata()) == [2.5, 2.5]  # pyright: ignore[reportArgumentType]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["below 1e-6 of the largest", "effective rank 2.5"]


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, -1.0], [0.0, 0.0], [[1.0]], [], [1.0, float("nan")]])
def test_what_is_no_spectrum_is_refused(values: list[Any]) -> None:
    with pytest.raises(InputError):
        figures.spectrum(values)
    with pytest.raises(InputError, match="effective rank"):
        figures.spectrum([2.0, 1.0], 3.0)


HISTORY = {
    "loss": [2.0, 1.0, 0.5, 0.25],
    "natural": [np.nan, 0.5, np.nan, 0.75],
    "robust": [np.nan, 0.25, np.nan, 0.2],
    "train_natural": [np.nan] * 4,
    "train_robust": [0.2, 0.3, 0.4, 0.5],
}


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of every line by its label."""
    lines = [line for line in axes.lines if line.get_gid() != "best"]
    return {str(line.get_label()): [tuple(point) for point in line.get_xydata()] for line in lines}  # pyright: ignore


def test_a_history_shows_what_was_looked_at_and_leaves_the_rest_out() -> None:
    above, below = figures.history(HISTORY, best_epoch=2, title="at, CIFAR-10").axes
    assert curves(above) == {
        "held out": [(2, 50.0), (4, 75.0)],
        "held out, attacked": [(2, 25.0), (4, 20.0)],
        "training batches, attacked": [(1, 20.0), (2, 30.0), (3, 40.0), (4, 50.0)],
    }
    assert curves(below) == {"loss": [(1, 2.0), (2, 1.0), (3, 0.5), (4, 0.25)]}
    for axes in (above, below):
        [best] = [line for line in axes.lines if line.get_gid() == "best"]
        assert list(best.get_xdata()) == [2, 2]  # pyright: ignore[reportArgumentType]


def test_held_out_and_training_curves_differ_in_more_than_their_hue() -> None:
    full = {**HISTORY, "train_natural": [0.3, 0.4, 0.6, 0.8]}
    above = figures.history(full).axes[0]
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in above.lines}
    assert len(looks) == 4
    assert len({(line.get_linestyle(), line.get_marker()) for line in above.lines}) >= 3


@pytest.mark.parametrize("series", [{"loss": [1.0]}, {"natural": [0.5]}, {"loss": [1.0], "robust": [0.1]}])
def test_one_epoch_and_one_series_can_be_drawn(series: dict[str, Any]) -> None:
    figure = figures.history(series, best_epoch=1)
    assert len(figure.axes) == len(series)
    for axes in figure.axes:
        markers = [line.get_marker() for line in axes.lines if line.get_gid() != "best"]
        assert all(markers), "a line of one point is none"
    assert not clipped(figure)


def test_a_long_history_with_a_long_title_is_legible() -> None:
    many = {name: np.linspace(0.1, 0.9, 200) for name in figures.SERIES}
    figure = figures.history(many, best_epoch=150, title=LONG_TITLE)
    assert not clipped(figure)
    assert smallest(figure) >= SMALLEST
    assert {str(line.get_marker()) for line in figure.axes[0].lines} <= {"", "None"}


@pytest.mark.parametrize(
    ("series", "best", "message"),
    [
        ({"losses": [1.0]}, None, "did you mean 'loss'"),
        ({"loss": [1.0], "natural": [0.1, 0.2]}, None, "one number for each epoch in every series"),
        ({"loss": [[1.0]]}, None, "one number for each epoch in every series"),
        ({"loss": [np.nan]}, None, "at least one number in the history"),
        ({}, None, "at least one number in the history"),
        ({"loss": [1.0]}, 2, "best_epoch: expected 1 to 1, got 2"),
    ],
)
def test_what_is_no_history_is_refused(series: dict[str, Any], best: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        figures.history(series, best_epoch=best)


LONG_TITLE = "a_stage_with_a_name@seed-1+steps-10.best, CIFAR-10 (image folders), targeted"


def smallest(figure: Figure) -> float:
    """The smallest font of what is written."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    return min(float(text.get_fontsize()) for text in texts)


def around(accuracy: Any) -> np.ndarray:
    values = np.asarray(accuracy, dtype=float)
    return np.stack([np.clip(values - 0.05, 0, 1), np.clip(values + 0.05, 0, 1)], axis=-1)


def test_accuracies_are_drawn_with_their_intervals() -> None:
    accuracy = [[0.9, 0.0], [0.8, np.nan]]
    [axes] = figures.accuracies(["std.best", "at.best"], ["natural", "pgd20"], accuracy, around(accuracy)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["std.best", "at.best"]
    drawn = {container.get_label(): container for container in axes.containers}
    natural, pgd20 = (drawn[name].lines for name in ("natural", "pgd20"))  # pyright: ignore
    np.testing.assert_allclose(natural[0].get_xdata(), [90.0, 80.0])
    np.testing.assert_allclose(pgd20[0].get_xdata(), [0.0])
    ends = [segment[:, 0] for segment in natural[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[85.0, 95.0], [75.0, 85.0]])
    assert [text.get_text() for text in axes.texts] == ["90.0", "80.0", "0.0"]


@pytest.mark.parametrize(("models", "attacks"), [(1, 1), (3, 4), (15, 6)])
def test_accuracies_of_any_number_of_models_are_legible(models: int, attacks: int) -> None:
    accuracy = np.random.default_rng(0).random((models, attacks))
    names = [f"a_long_name_of_a_stage@seed-{number}+steps-10.best" for number in range(models)]
    figure = figures.accuracies(
        names, [f"pgd-{n}" for n in range(attacks)], accuracy, around(accuracy), title=LONG_TITLE
    )
    assert not clipped(figure)
    assert smallest(figure) >= SMALLEST
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    labels = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(labels))
    assert figure.axes[0].get_window_extent().width > 0.4 * figure.bbox.width


@pytest.mark.parametrize(
    ("accuracy", "intervals", "message"),
    [
        ([[0.5]], [[0.4, 0.6]], "intervals"),
        ([[0.5, 0.5]], around([[0.5, 0.5]]), "expected 2 names of attacks"),
        ([[0.5], [0.5]], around([[0.5], [0.5]]), "expected 2 names, one for each row of accuracy; got 1"),
        ([[0.5]], [[[0.6, 0.7]]], "not in its interval"),
        ([[1.5]], [[[1.4, 1.6]]], "not in its interval"),
        ([[np.nan]], [[[0.0, 0.0]]], "got only NaN"),
    ],
)
def test_what_are_no_accuracies_is_refused(accuracy: Any, intervals: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        figures.accuracies(["at"], ["natural"], accuracy, intervals)


@pytest.mark.parametrize(
    "draw",
    [
        lambda title: figures.correlation(planted(CIFAR10), NAMES, hierarchy=CIFAR10, title=title),
        lambda title: figures.confusion(shares(2), ["a", "b"], title=title),
        lambda title: figures.spectrum([2.0, 1.0], title=title),
        lambda title: figures.weights(np.ones((2, 1, 2, 2)), ["a", "b"], title=title, width="column"),
    ],
)
def test_long_titles_go_on_in_another_line(draw: Callable[[str], Figure]) -> None:
    figure = draw(LONG_TITLE)
    said = [text.get_text() for text in figure.findobj(Text) if "targeted" in text.get_text()]  # pyright: ignore
    assert [text.replace("\n", " ") for text in said] == [LONG_TITLE]
    assert "\n" in said[0]
    assert not clipped(figure)


@matrix_figures
@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.ones((2, 3)), ["a", "b"], "expected shape"),
        (np.ones(4), ["a", "b"], "expected shape"),
        (np.ones((2, 2)), ["a", "b", "c"], "expected 2 names, one for each row of [CFM]; got 3"),
        (np.ones((2, 2)), "ab", "expected a list of names"),
        ([[1, float("nan")], [0, 1]], ["a", "b"], "expected finite numbers"),
        ([[1, 1.5], [0, 1]], ["a", "b"], r"expected values in \[-?., 1\], got 1.5 at \(0, 1\)"),
        ([["x", "y"]], ["a", "b"], "expected an array of numbers"),
        (np.ones((0, 0)), [], "empty array"),
    ],
)
def test_what_is_no_matrix_of_the_classes_is_refused(
    draw: Callable[..., Figure], matrix: Any, names: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw(matrix, names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "hierarchy"}, "needs a hierarchy"),
        ({"order": "labels"}, "did you mean 'label'"),
        ({"scale": "red"}, "scale: expected"),
        ({"width": 3.3}, "width: expected"),
        ({"hierarchy": named("stl10")}, "the hierarchy has no class 'automobile'"),
        ({"hierarchy": named("cifar100")}, "the hierarchy has no class 'airplane'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        figures.correlation(planted(CIFAR10), NAMES, **options)


def test_a_hierarchy_in_another_order_is_matched_by_name() -> None:
    other = CIFAR10.for_classes(sorted(NAMES, key=lambda name: name[::-1]))
    first, second = (
        figures.correlation(planted(CIFAR10), NAMES, hierarchy=item, order="hierarchy") for item in (CIFAR10, other)
    )
    assert rows(first) == rows(second)
    with pytest.raises(InputError, match="the classes have no names, only the numbers 0 to 9"):
        figures.correlation(planted(CIFAR10), [str(label) for label in range(10)], hierarchy=CIFAR10)


@pytest.mark.parametrize(("extension", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("SVG", b"<?xml")])
def test_saved_twice_is_the_same_file(extension: str, start: bytes, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{extension}" for name in ("a", "b", "c")]
    first = figures.correlation(planted(FEW), FEW.class_names, hierarchy=FEW)
    assert figures.save(first, paths[0], dpi=100) == paths[0]
    figures.save(first, str(paths[1]), dpi=100)  # a second drawing of a figure moves nothing
    figures.save(figures.correlation(planted(FEW), FEW.class_names, hierarchy=FEW), paths[2], dpi=100)
    content = paths[0].read_bytes()
    assert content.startswith(start)
    assert content == paths[1].read_bytes() == paths[2].read_bytes()


def test_a_saved_png_has_the_printed_size(tmp_path: Path) -> None:
    path = figures.save(figures.spectrum([3.0, 2.0, 1.0]), tmp_path / "s.png", dpi=200)
    with Image.open(path) as image:
        assert image.size[0] == 660


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.svgz", "missing/figure.png"])
def test_what_can_not_be_saved_leaves_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        figures.save(figures.spectrum([2.0, 1.0]), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_figures_leave_the_users_settings_and_do_not_follow_them(tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "mine", "image.cmap": "gray"}):
        before = dict(matplotlib.rcParams)
        figures.save(figures.spectrum([2.0, 1.0]), tmp_path / "a.svg")
        assert dict(matplotlib.rcParams) == before
    figures.save(figures.spectrum([2.0, 1.0]), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_figures_use_no_pyplot_which_keeps_them_and_wants_a_screen() -> None:
    sources = list(Path(figures.__file__).parent.glob("*.py"))
    assert len(sources) > 5
    assert not [path.name for path in sources if "pyplot" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "values",
    [[2.1, 1.4, 1.2], [4.4, 3.9, 3.7], [5.0], [90.0, 7.0, 0.95], [1.0, 1e-3, 1e-9], [3e9, 2e5, 2e2], [4.4e-5, 4.1e-5]],
)
def test_ticks_of_a_spectrum_are_plain_numbers(values: list[float]) -> None:
    axes = figures.spectrum(values).axes[0]
    low, high = axes.get_ylim()
    shown = [tick.get_text() for tick in axes.get_yticklabels() if low <= tick.get_position()[1] <= high]
    assert 2 <= len(shown) <= 9
    assert len(set(shown)) == len(shown)
    for text in shown:
        float(text)
        assert len(text) <= 7
    assert not axes.get_yticks(minor=True).tolist()


@pytest.mark.parametrize("draw", [figures.correlation, figures.confusion])
@pytest.mark.parametrize("classes", [4, 20])
def test_a_class_without_values_is_gray_and_named(draw: Callable[..., Figure], classes: int) -> None:
    matrix = np.full((classes, classes), 0.5)
    matrix[1] = np.nan
    names = [f"class number {label}" for label in range(classes)]
    hierarchy = Hierarchy.of_labels([label % 2 for label in range(classes)], class_names=names, method="test")
    for options in ({}, {"hierarchy": hierarchy, "order": "hierarchy"}):
        figure = draw(matrix, names, **options)
        figure.draw_without_rendering()
        said = figure.axes[0].child_axes[0].get_xlabel()
        assert said.startswith("gray: no ")
        assert "class number 1" in said
    with pytest.raises(InputError, match="expected numbers, got only NaN"):
        draw(np.full((classes, classes), np.nan), names)
    matrix[0, 0] = np.nan
    with pytest.raises(InputError, match="at"):
        draw(matrix, names)


def test_scales_for_several_figures_are_those_of_the_largest() -> None:
    first, second = np.full((3, 3), 0.12), np.full((3, 3), 0.31)
    second[1] = np.nan
    assert figures.confusion_scale([first]) == pytest.approx(0.2)
    assert figures.confusion_scale([first, second]) == pytest.approx(0.4)
    images = [np.full((3, 1, 4, 4), size) for size in (0.5, 2.0)]
    assert figures.weight_scale(images) == 2.0


def test_long_names_that_start_alike_are_told_apart() -> None:
    names = [f"very long name of class {label:02}" for label in range(6)]
    room = 40.0
    short = fitted_names(names, room)
    assert len(set(short)) == 6
    assert all(text_width(name) <= room and name.endswith(f"{label:02}") for label, name in enumerate(short))
    assert fitted_names(["golden retriever of the north", "cat"], room)[0].endswith("…")
    assert len(set(rows(figures.correlation(np.eye(6), names)))) == 6
    panels = figures.weights(
        np.ones((20, 1, 2, 3)), [f"very long name of class {label:02}" for label in range(20)]
    ).axes
    assert len({axes.get_title() for axes in panels[:20]}) == 20

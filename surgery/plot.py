"""Figures from results, in one call each: `surgery.plot.correlation(linear_map)`.

Every function returns a matplotlib `Figure`, which a notebook shows and `save` writes. It draws an array or a tensor, a
result (`LinearMap`, `Confusion`), a group of a store, or a dataset of `surgery.load`; a map, groups and datasets
bring the names of their classes along. `surgery.report.figures` has the same figures for arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from surgery.errors import InputError
from surgery.hierarchy import Hierarchy, load_hierarchy
from surgery.linear import LinearMap, correlate
from surgery.linear import spectrum as singular_values
from surgery.report import figures
from surgery.report.figures import Width as Width
from surgery.report.figures import accuracies as accuracies
from surgery.report.figures import save as save
from surgery.report.matrices import Order as Order
from surgery.store import Group

Known = Hierarchy | str | Path
"""A hierarchy, the name of a known one (`cifar10`), or a file with superclasses."""


def correlation(
    C: Any,
    class_names: Sequence[str] | None = None,
    *,
    hierarchy: Known | None = None,
    order: Order | None = None,
    centered: bool = False,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The correlation matrix C of the classes' weight vectors, from -1 to 1 (Bai et al. 2021, eq. 7, Figs. 1 and 3).

    `C`: a `LinearMap`, an array `(K, K)`, an `extract` group or its dataset. `centered`: C of the weight vectors
    without their mean over the classes; of an array, only the label changes. `hierarchy`: outlines its superclasses and
    orders the classes by them, unless `order="label"`.

    Raises InputError for other objects, and for names or a hierarchy that do not fit.
    """
    if isinstance(C, LinearMap):
        values, names = correlate(C, center=centered, undefined="nan"), C.class_names
    else:
        values, names = _read(C, "correlation_centered" if centered else "correlation")
    names = _names(class_names, names, len(values))
    known, order = _ordered(hierarchy, order, names)
    return figures.correlation(values, names, hierarchy=known, order=order, centered=centered, title=title, width=width)


def feature_distance(
    F: Any,
    class_names: Sequence[str] | None = None,
    *,
    hierarchy: Known | None = None,
    order: Order | None = None,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The feature distances F `(K, K)` of the classes, from 0 to 1 (Bai et al. 2021, eq. 8 and 9, Fig. 2).

    `F`: an array, a `features` group or its dataset. The other arguments and the errors are those of `correlation`.
    """
    values, names = _read(F, "feature_distance")
    names = _names(class_names, names, len(values))
    known, order = _ordered(hierarchy, order, names)
    return figures.feature_distance(values, names, hierarchy=known, order=order, title=title, width=width)


def confusion(
    M: Any,
    class_names: Sequence[str] | None = None,
    *,
    hierarchy: Known | None = None,
    order: Order | None = None,
    highest: float | None = None,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """The attack confusion matrix M `(K, K)`, in percent (Bai et al. 2021, section 7, Fig. 7).

    `M`: the result of `confusion_matrix`, an array of shares in [0, 1], a `confusion` group or its dataset. `highest`:
    the share at the end of the scale, for figures that are compared. The other arguments and the errors are those of
    `correlation`.
    """
    values, names = _read(getattr(M, "matrix", M), "confusion")
    names = _names(class_names, names, len(values))
    known, order = _ordered(hierarchy, order, names)
    return figures.confusion(values, names, hierarchy=known, order=order, highest=highest, title=title, width=width)


def dendrogram(
    C: Any,
    hierarchy: Hierarchy,
    *,
    centered: bool = False,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """C `(K, K)` in the order of the dendrogram of `hierarchy`, which is drawn next to it (Bai et al. 2021, section 4).

    `C`: as for `correlation`; `hierarchy`: what `surgery.cluster` found in it.

    Raises InputError for a hierarchy without a dendrogram, or of another number of classes.
    """
    if isinstance(C, LinearMap):
        values = correlate(C, center=centered)
    else:
        values, _ = _read(C, "correlation_centered" if centered else "correlation")
    return figures.dendrogram(values, hierarchy, centered=centered, title=title, width=width)


def weights(
    W: Any,
    class_names: Sequence[str] | None = None,
    *,
    limit: float | None = None,
    title: str | None = None,
    width: Width = "page",
) -> Figure:
    """The weight vectors as images of 1 or 3 channels, a panel for each class, on one scale.

    `W`: a `LinearMap`, an array `(K, channels, height, width)`, an `extract` group or its dataset. `limit`: the weight
    at the end of the scale, for figures that are compared.

    Raises InputError for other shapes, more than 100 classes, and names that do not fit.
    """
    values, names = (W.weight, W.class_names) if isinstance(W, LinearMap) else _read(W, "weight")
    return figures.weights(values, _names(class_names, names, len(values)), limit=limit, title=title, width=width)


def spectrum(W: Any, *, title: str | None = None, width: Width = "column") -> Figure:
    """The singular values of W on a log scale, with its effective rank (Roy and Vetterli 2007).

    `W`: a `LinearMap`, an `extract` group or its dataset, or the singular values themselves, largest first.

    Raises InputError for values that are negative, all zero or not in descending order.
    """
    if isinstance(W, LinearMap):
        found = singular_values(W)
        return figures.spectrum(found.singular_values, found.effective_rank, title=title, width=width)
    values, _ = _read(W, "singular_value")
    attributes = getattr(W, "attributes", getattr(W, "attrs", {}))
    rank = attributes.get("effective_rank")
    return figures.spectrum(values, None if rank is None else float(rank), title=title, width=width)


def history(
    training: Any,
    *,
    best_epoch: int | None = None,
    title: str | None = None,
    width: Width = "column",
) -> Figure:
    """Accuracies and loss over the epochs of a training (Bai et al. 2021, section 6).

    `training`: a `train` group, its dataset, or a mapping from the names of series (`loss`, `natural`, `robust`,
    `train_natural`, `train_robust`) to a value for each epoch.

    Raises InputError for other series, and for series of different lengths.
    """
    series = training
    if isinstance(training, Group) or hasattr(training, "data_vars"):
        items = [item.name for item in training.variables] if isinstance(training, Group) else list(training.data_vars)
        series = {name: np.asarray(training[name]) for name in figures.SERIES if name in items}
    return figures.history(series, best_epoch=best_epoch, title=title, width=width)


def _read(source: Any, variable: str) -> tuple[Any, tuple[str, ...] | None]:
    """The values of `source`, or of its variable, and the names of its classes if it has them."""
    if isinstance(source, Group):
        known = [item.name for item in source.variables]
        if variable not in known:
            raise InputError(f"the group {source.name!r} has no {variable!r}; it has {', '.join(known)}")
        return source[variable], tuple(map(str, source["class"])) if _has_classes(source) else None
    if hasattr(source, "data_vars"):  # an xarray dataset, which is not imported for the sake of its type
        if variable not in source:
            raise InputError(f"the dataset has no {variable!r}; it has {', '.join(map(str, source.data_vars))}")
        source = source[variable]
    if hasattr(source, "coords") and hasattr(source, "dims"):
        names = tuple(map(str, source.coords["class"].values)) if "class" in source.coords else None
        return np.asarray(source), names
    if isinstance(source, (str, bytes, Path)) or not (hasattr(source, "__len__") or hasattr(source, "__array__")):
        raise InputError(
            f"expected an array, a LinearMap, a group of a store or its dataset, got {type(source).__name__}",
            hint="surgery.load('runs/first') opens a store",
        )
    return source, None


def _has_classes(group: Group) -> bool:
    return any(item.name == "class" for item in group.coordinates)


def _names(given: Sequence[str] | None, found: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names that were given, else those that came with the values, else numbers."""
    names = found if given is None else given
    return tuple(str(label) for label in range(count)) if names is None else tuple(names)


def _ordered(
    hierarchy: Known | None, order: Order | None, names: tuple[str, ...]
) -> tuple[Hierarchy | None, Literal["label", "hierarchy"]]:
    """The hierarchy itself, and the order of classes: by superclass where there are superclasses."""
    known = load_hierarchy(hierarchy) if isinstance(hierarchy, (str, Path)) else hierarchy
    known = None if known is None else known.matched(names)
    return known, order or ("label" if known is None else "hierarchy")

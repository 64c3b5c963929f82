"""Which figures there are of what the stages found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from surgery.hierarchy import Hierarchy
from surgery.recipe.recipe import Recipe, Stage
from surgery.recipe.running.folder import RunFolder
from surgery.recipe.running.values import hierarchy_in
from surgery.recipe.running.verdict import Accuracy, model_of
from surgery.store import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Callable[[], "Figure"]]
"""By what they show, functions that draw figures."""


def stage_figures(recipe: Recipe, folder: RunFolder, stage: Stage, *, data: str, known: Hierarchy | None) -> Figures:
    """The figures of one stage; `known`: the hierarchy of the data, which is outlined where it is of the classes."""
    group = folder.read(stage.name)
    title = f"{model_of(recipe, stage)}, {data}"
    if group.kind == "train":
        return _of_training(group, title)
    if group.kind == "hierarchy":
        return _of_hierarchy(group, folder.read(stage.inputs["map"].stage), title)
    if "class" not in group.sizes:
        return {}
    names = tuple(map(str, group["class"]))
    outlined = known if known is not None and known.class_names == names else None
    return {"linear": _of_map, "features": _of_features, "confusion": _of_confusion}.get(group.kind, _none)(
        group, names, outlined, title
    )


def accuracies_figure(accuracies: Sequence[Accuracy], title: str) -> Figures:
    """Natural and robust accuracies of all models beside each other."""
    if not accuracies:
        return {}
    models, attacks = _labels(accuracies), list(dict.fromkeys(row.attack for row in accuracies))
    shares = np.full((len(set(models)), len(attacks)), np.nan)
    intervals = np.full((*shares.shape, 2), np.nan)
    for model, row in zip(models, accuracies, strict=True):
        place = list(dict.fromkeys(models)).index(model), attacks.index(row.attack)
        shares[place], intervals[place] = row.accuracy, row.interval

    def draw() -> Figure:
        from surgery.report import figures

        return figures.accuracies(list(dict.fromkeys(models)), attacks, shares, intervals, title=title)

    return {"accuracies": draw}


def _labels(accuracies: Sequence[Accuracy]) -> list[str]:
    """The model of each accuracy, with the stage where several stages are about one model."""
    stages = Counter(model for model, _ in {(row.model, row.stage) for row in accuracies})
    return [row.model if stages[row.model] == 1 else f"{row.model} [{row.stage}]" for row in accuracies]


def _of_training(group: Group, title: str) -> Figures:
    from surgery.report import figures

    shown = {item.name: item.data for item in group.variables if item.name in figures.SERIES}
    best = int(group.attributes["best_epoch"])
    return {"history": lambda: figures.history(shown, best_epoch=best or None, title=title)}


def _of_hierarchy(group: Group, map: Group, title: str) -> Figures:
    """C in the order of the superclasses that were found, with the dendrogram where there is one."""
    from surgery.report import figures

    which = str(group.attributes["correlation"])
    C, centered, found = map[which], which == "correlation_centered", hierarchy_in(group)
    if found.merges:
        return {"dendrogram": lambda: figures.dendrogram(C, found, centered=centered, title=title)}
    names = found.class_names
    return {
        "superclasses": lambda: figures.correlation(
            C, names, hierarchy=found, order="hierarchy", centered=centered, title=title
        )
    }


def _of_map(group: Group, names: tuple[str, ...], known: Hierarchy | None, title: str) -> Figures:
    from surgery.report import figures

    C, centred, weight = group["correlation"], group["correlation_centered"], group["weight"]
    rank = float(group.attributes["effective_rank"])
    drawn = {
        "correlation": lambda: figures.correlation(C, names, hierarchy=known, title=title),
        "correlation-centered": lambda: figures.correlation(
            centred, names, hierarchy=known, centered=True, title=title
        ),
        "spectrum": lambda: figures.spectrum(group["singular_value"], rank, title=title),
    }
    if weight.ndim == 4 and weight.shape[1] in (1, 3) and len(weight) <= figures.MOST_PANELS:
        return {**drawn, "weights": lambda: figures.weights(weight, names, title=title)}
    return drawn


def _of_features(group: Group, names: tuple[str, ...], known: Hierarchy | None, title: str) -> Figures:
    from surgery.report import figures

    F = group["feature_distance"]
    return {"distance": lambda: figures.feature_distance(F, names, hierarchy=known, title=title)}


def _of_confusion(group: Group, names: tuple[str, ...], known: Hierarchy | None, title: str) -> Figures:
    from surgery.report import figures

    M, said = group["confusion"], f"{title}, targeted" if group.attributes["targeted"] else title
    return {"matrix": lambda: figures.confusion(M, names, hierarchy=known, title=said)}


def _none(group: Group, names: tuple[str, ...], known: Hierarchy | None, title: str) -> Figures:
    return {}

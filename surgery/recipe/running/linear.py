"""The stage kinds `linearize`, `extract`, `cluster` and `features`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from surgery.graph import Graph, load_graph, save_graph, trace
from surgery.hierarchy import Hierarchy
from surgery.hierarchy import cluster as find_superclasses
from surgery.linear import certify, features_at, penultimate
from surgery.linear import extract as extract_map
from surgery.linear.features import class_means
from surgery.recipe.references import DATA
from surgery.recipe.running.context import Context
from surgery.recipe.running.values import images_of
from surgery.recipe.stages import ClusterStage, ExtractStage, FeaturesStage, LinearizeStage
from surgery.rewrite import Rewrite, apply, plan
from surgery.store import Group
from surgery.store.stages import features_group, graph_group, hierarchy_group, linear_group


def linearize(context: Context, stage: LinearizeStage) -> Group:
    """Rewrite a network, certify it, and save the graph."""
    rewritten = _rewritten(context, stage.rules)
    certificate = certify(rewritten.module)
    context.folder.claim(context.stage.name, context.record)
    save_graph(rewritten.module, context.folder.graph(context.stage.name))
    return graph_group(
        certificate,
        rules=stage.rules,
        edits=Counter(edit.rule for edit in rewritten.log),
        provenance=context.provenance(),
        name=context.stage.name,
    )


def extract(context: Context, stage: ExtractStage) -> Group:
    """W, b and C."""
    graph = _graph(context, stage)
    certificate = certify(graph)
    map = extract_map(
        graph,
        at=stage.at,
        certificate=certificate,
        device=context.device,
        progress=context.steps("pulling classes back to the image"),
    )
    rows = len(map.bias)
    names = context.data.class_names if stage.at is None else tuple(str(number) for number in range(rows))
    return linear_group(
        map, certificate=certificate, class_names=names, provenance=context.provenance(), name=context.stage.name
    )


def cluster(context: Context, stage: ClusterStage) -> Group:
    """Superclasses from C, with scores where a hierarchy is known."""
    found = context.folder.read(context.input("map").stage)
    names = tuple(str(name) for name in found["class"])
    matrix = found["correlation_centered" if stage.centered else "correlation"].copy()
    hierarchy = find_superclasses(matrix, superclasses=stage.superclasses, method=stage.method, class_names=names)
    reference = _reference(context, stage, names)
    return hierarchy_group(
        hierarchy,
        scores=None if reference is None else hierarchy.scores(matrix, reference),
        reference=reference,
        centered=stage.centered,
        provenance=context.provenance(),
        name=context.stage.name,
    )


def _reference(context: Context, stage: ClusterStage, names: tuple[str, ...]) -> Hierarchy | None:
    """What the superclasses are scored against; that of the data only for its classes, and if it says anything."""
    found = context.hierarchy("reference", stage.reference)
    if stage.reference != DATA or found is None:
        return found
    tells = names == found.class_names and 1 < found.num_superclasses < len(names)
    return found if tells else None


def features(context: Context, stage: FeaturesStage) -> Group:
    """F, streamed over the images."""
    graph = _traced(context)
    node = penultimate(graph) if stage.at == "penultimate" else stage.at
    function = (graph if stage.at == "output" else features_at(graph, node)).to(context.device)
    split = images_of(stage, context.data).to(context.device)
    means = class_means(
        function, split.batches(stage.batch_size), num_classes=context.data.num_classes, variant=stage.variant
    )
    return features_group(
        means,
        variant=stage.variant,
        node=node,
        class_names=context.data.class_names,
        provenance=context.provenance(),
        name=context.stage.name,
    )


def _graph(context: Context, stage: ExtractStage) -> Graph:
    if stage.graph is not None:
        return load_graph(context.folder.graph(context.input("graph").stage))
    assert stage.rules is not None, "loading fills the rules in"
    return _rewritten(context, stage.rules).module


def _rewritten(context: Context, rules: Sequence[str]) -> Rewrite:
    return apply(plan(_traced(context), list(rules)))


def _traced(context: Context) -> Graph:
    network = context.network()
    if isinstance(network, Graph):
        return network
    return trace(network, torch.zeros((1, *context.data.input_shape)))

"""The stage kind `features`: distances F of the classes in feature space (paper, eq. 8 and 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from surgery.graph import Graph, trace
from surgery.linear import ClassMeans, features_at, penultimate
from surgery.linear.features import Variant, class_means
from surgery.stages.sources import EvaluationStage
from surgery.stages.stage import Context, Figures, Finished, Sizes, as_array
from surgery.store import Coordinate, Group, Variable, class_coordinates


class FeaturesStage(EvaluationStage):
    """Distances of the classes in feature space: the matrix F (paper, eq. 8 and 9)."""

    heading: ClassVar[str] = "Stage `features`"

    kind: Literal["features"] = Field(description="The matrix F.")
    variant: Variant = Field(
        default="paper", description="`paper`: L2 distances of means; `published`: the distances of the paper's code."
    )
    at: str = Field(
        default="penultimate", description="Features: `penultimate`, `output` for the logits, a node, or a module path."
    )

    def passes(self, sizes: Sizes) -> int:
        return sizes.of(self.split, self.images)

    def run(self, context: Context) -> Group:
        network = context.network(self.file, self.network)
        example = torch.zeros((1, *context.data.input_shape))
        graph = network if isinstance(network, Graph) else trace(network, example)
        # The paper says features, its code takes logits: `at` chooses, and the store keeps the node.
        node = penultimate(graph) if self.at == "penultimate" else self.at
        function = (graph if self.at == "output" else features_at(graph, node)).to(context.device)
        batches = self.images_of(context.data).to(context.device).batches(self.batch_size)
        means = class_means(function, batches, num_classes=context.data.num_classes, variant=self.variant)
        return features_group(
            means,
            variant=self.variant,
            node=node,
            class_names=context.data.class_names,
            provenance=context.provenance(),
            name=context.name,
        )

    def draw(self, finished: Finished) -> Figures:
        from surgery.report import figures

        names, F, title = tuple(map(str, finished.group["class"])), finished.group["feature_distance"], finished.title
        ordered = finished.ordered(names)
        return {"distance": lambda: figures.feature_distance(F, names, title=title, **ordered)}


def features_group(
    means: ClassMeans,
    *,
    variant: Variant,
    node: str,
    class_names: tuple[str, ...],
    provenance: Mapping[str, str],
    name: str = "features",
) -> Group:
    """Mean features Z, F and the images of each class (eq. 8, 9); `node` is where the features were taken."""
    found = means.means
    return Group(
        name=name,
        kind="features",
        coordinates=(
            *class_coordinates(class_names),
            Coordinate(name="feature", values=np.arange(found.shape[1]), long_name="number of a feature"),
        ),
        variables=(
            Variable(
                name="feature_distance",
                data=as_array(means.distance(variant)),
                dimensions=("class", "class_other"),
                long_name="distance of mean features, rows divided by their largest entry",
                comment="eq. 9; rows are divided one by one, so the matrix is not symmetric",
            ),
            Variable(
                name="mean_feature",
                data=as_array(found),
                dimensions=("class", "feature"),
                long_name="mean feature of a class, eq. 8",
            ),
            Variable(name="images", data=as_array(means.counts), dimensions=("class",), long_name="images of a class"),
        ),
        attributes={"variant": variant, "node": node},
        provenance=provenance,
    )

"""The stage `features`: the distances F between the classes in feature space as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surgery.linear import ClassMeans
from surgery.linear.features import Variant
from surgery.store.stages.arrays import as_array
from surgery.store.values import Coordinate, Group, Variable, class_coordinates


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

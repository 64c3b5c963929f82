"""The stage `hierarchy`: superclasses, dendrogram and scores as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surgery.hierarchy import Hierarchy, Scores
from surgery.store.stages.arrays import as_array
from surgery.store.values import Coordinate, Group, Variable, class_coordinates


def hierarchy_group(
    hierarchy: Hierarchy,
    *,
    scores: Scores | None,
    reference: Hierarchy | None,
    centered: bool,
    provenance: Mapping[str, str],
    name: str = "hierarchy",
) -> Group:
    """The stage `hierarchy`: superclasses, C_op, dendrogram, and the scores against a reference (section 4)."""
    variables = [
        Variable(
            name="superclass",
            data=np.array(hierarchy.superclass, dtype=np.int32),
            dimensions=("class",),
            long_name="number of the superclass of a class",
        ),
        Variable(
            name="block_matrix",
            data=as_array(hierarchy.block_matrix).astype(np.int8),
            dimensions=("class", "class_other"),
            long_name="C_op: 1 where two classes share their superclass, -1 elsewhere",
        ),
    ]
    coordinates = list(class_coordinates(hierarchy.class_names))
    if hierarchy.merges:  # none of a single class
        columns = ("first", "second", "height", "size")
        coordinates += [
            Coordinate(name="merge", values=np.arange(len(hierarchy.merges)), long_name="merge of the dendrogram"),
            Coordinate(name="merge_entry", values=columns, long_name="column of a linkage matrix"),
        ]
        variables.append(
            Variable(
                name="merges",
                data=np.array(hierarchy.merges, dtype=np.float64),
                dimensions=("merge", "merge_entry"),
                long_name="dendrogram as a linkage matrix",
            )
        )
    if reference is not None:
        variables.append(
            Variable(
                name="reference_superclass",
                data=np.array(reference.superclass, dtype=np.int32),
                dimensions=("class",),
                long_name="number of the superclass of a class in the reference",
            )
        )
    values = {} if scores is None else {key: value for key, value in vars(scores).items() if value is not None}
    return Group(
        name=name,
        kind="hierarchy",
        coordinates=tuple(coordinates),
        variables=tuple(variables),
        attributes={
            "method": hierarchy.method,
            "correlation": "correlation_centered" if centered else "correlation",
            **({} if reference is None else {"reference": reference.method}),
            **values,
        },
        provenance=provenance,
    )

"""What each stage of the method writes: results as values in, groups of the store out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from surgery.hierarchy import Hierarchy, Scores
from surgery.linear import AffineCertificate, LinearMap, correlate, spectrum
from surgery.store.values import Coordinate, Group, Variable, class_coordinates

AXES = ("channel", "row", "column")
"""The dimensions of an image."""


def linear_group(
    map: LinearMap,
    *,
    certificate: AffineCertificate,
    class_names: tuple[str, ...],
    provenance: Mapping[str, str],
    name: str = "linear",
) -> Group:
    """The stage `linear`: W, b, both kinds of C, the spectrum of W and the scale of every node (sections 3.1, 3.2)."""
    found = spectrum(map)
    axes = AXES if len(map.input_shape) == len(AXES) else tuple(f"axis_{i}" for i in range(len(map.input_shape)))
    pair = ("class", "class_other")
    sizes = zip(axes, map.input_shape, strict=True)
    return Group(
        name=name,
        kind="linear",
        coordinates=(
            *class_coordinates(class_names),
            *[Coordinate(name=axis, values=np.arange(size), long_name=f"{axis} of an image") for axis, size in sizes],
            Coordinate(name="component", values=np.arange(len(found.singular_values)), long_name="singular vector"),
            Coordinate(name="node", values=tuple(certificate.scales), long_name="node of the linear sub-network"),
        ),
        variables=(
            Variable(
                name="weight",
                data=_array(map.weight),
                dimensions=("class", *axes),
                long_name="weight matrix of the linear sub-network",
            ),
            Variable(name="bias", data=_array(map.bias), dimensions=("class",), long_name="output for a zero image"),
            Variable(
                name="correlation",
                data=_array(correlate(map)),
                dimensions=pair,
                long_name="correlation of weight vectors",
                comment="cosine of the angle between the weight vectors of two classes, eq. 7",
            ),
            Variable(
                name="correlation_centered",
                data=_array(correlate(map, center=True)),
                dimensions=pair,
                long_name="correlation of weight vectors without their mean",
                comment="softmax does not see a vector added to all weight vectors; this kind of correlation neither",
            ),
            Variable(
                name="singular_value",
                data=_array(found.singular_values),
                dimensions=("component",),
                long_name="singular values of the weight matrix",
            ),
            Variable(
                name="scale",
                data=np.array(list(certificate.scales.values())),
                dimensions=("node",),
                long_name="root mean square of a node's linear part for standard normal images",
            ),
        ),
        attributes={
            "model": str(map.provenance.get("model", "")),
            "node": str(map.provenance.get("node", "")),
            "certificate": certificate.reason,
            "effective_rank": found.effective_rank,
            "stable_rank": found.stable_rank,
        },
        provenance=provenance,
    )


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
            data=_array(hierarchy.block_matrix).astype(np.int8),
            dimensions=("class", "class_other"),
            long_name="C_op: 1 where two classes share their superclass, -1 elsewhere",
        ),
    ]
    coordinates = list(class_coordinates(hierarchy.class_names))
    if hierarchy.merges is not None:
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


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()

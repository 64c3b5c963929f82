"""The stage `linear`: W, b and C as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surgery.linear import AffineCertificate, LinearMap, correlate, spectrum
from surgery.store.stages.arrays import as_array
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
                data=as_array(map.weight),
                dimensions=("class", *axes),
                long_name="weight matrix of the linear sub-network",
            ),
            Variable(name="bias", data=as_array(map.bias), dimensions=("class",), long_name="output for a zero image"),
            Variable(
                name="correlation",
                data=as_array(correlate(map)),
                dimensions=pair,
                long_name="correlation of weight vectors",
                comment="cosine of the angle between the weight vectors of two classes, eq. 7",
            ),
            Variable(
                name="correlation_centered",
                data=as_array(correlate(map, center=True)),
                dimensions=pair,
                long_name="correlation of weight vectors without their mean",
                comment="softmax does not see a vector added to all weight vectors; this kind of correlation neither",
            ),
            Variable(
                name="singular_value",
                data=as_array(found.singular_values),
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

"""The stage `linearize`: the certificate of a rewritten network as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from surgery.linear import AffineCertificate
from surgery.store.values import Coordinate, Group, Variable


def graph_group(
    certificate: AffineCertificate,
    *,
    rules: Sequence[str],
    edits: Mapping[str, int],
    provenance: Mapping[str, str],
    name: str = "graph",
) -> Group:
    """How often each rule fired, and what the certificate says; the graph is a file of its own.

    There are no `edits` where no rule fired, and no `scale` where the graph is not affine.
    """
    fired, scales = tuple(edits), certificate.scales
    return Group(
        name=name,
        kind="linearize",
        coordinates=(
            *((Coordinate(name="rule", values=fired, long_name="rule"),) if fired else ()),
            *((Coordinate(name="node", values=tuple(scales), long_name="node of the graph"),) if scales else ()),
        ),
        variables=(*_edits(edits), *_scales(scales)),
        attributes={"rulesets": ", ".join(rules), "verdict": certificate.verdict, "certificate": certificate.reason},
        provenance=provenance,
    )


def _edits(edits: Mapping[str, int]) -> tuple[Variable, ...]:
    if not edits:
        return ()
    numbers = np.array(list(edits.values()), dtype=np.int32)
    return (Variable(name="edits", data=numbers, dimensions=("rule",), long_name="how often a rule fired"),)


def _scales(scales: Mapping[str, float]) -> tuple[Variable, ...]:
    if not scales:
        return ()
    said = "root mean square of a node's linear part for standard normal images"
    return (Variable(name="scale", data=np.array(list(scales.values())), dimensions=("node",), long_name=said),)

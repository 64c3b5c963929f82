"""The stage kind `linearize`: a network rewritten by rules, its graph file and its certificate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from surgery.graph import save_graph
from surgery.linear import AffineCertificate, linearize
from surgery.stages.sources import ModelStage, Rules
from surgery.stages.stage import Context
from surgery.store import Coordinate, Group, Variable


class LinearizeStage(ModelStage):
    """Rewrites a network by rules, to its linear sub-network by default; writes a graph file and its certificate."""

    heading: ClassVar[str] = "Stage `linearize`"
    files: ClassVar[tuple[str, ...]] = ("graphs/{}.safetensors",)
    mark: ClassVar[str] = "graphs/.{}.key.json"

    kind: Literal["linearize"] = Field(description="Rewrite a network by rules.")
    rules: Rules = Field(default=("linearize",), description="Rulesets: shipped ones by name, others by path.")

    def run(self, context: Context) -> Group:
        example = torch.zeros((1, *context.data.input_shape))
        result = linearize(context.network(self.file, self.network), example, rules=list(self.rules))
        # Claimed before it is written: a kill in between leaves no group, so the stage runs again.
        context.claim()
        save_graph(result.module, context.folder.graph(context.name))
        return graph_group(
            result.certificate,
            rules=self.rules,
            edits=Counter(edit.rule for edit in result.log),
            provenance=context.provenance(),
            name=context.name,
        )


def graph_group(
    certificate: AffineCertificate,
    *,
    rules: Sequence[str],
    edits: Mapping[str, int],
    provenance: Mapping[str, str],
    name: str = "graph",
) -> Group:
    """How often each rule fired, and the certificate; the graph itself is a file.

    The variable `edits` is missing if no rule fired, and `scale` if the graph is not affine: a store has no empty
    arrays.
    """
    scales = certificate.scales
    coordinates, variables = [], []
    if edits:
        fired = np.array(list(edits.values()), dtype=np.int32)
        coordinates.append(Coordinate(name="rule", values=tuple(edits), long_name="rule"))
        variables.append(Variable(name="edits", data=fired, dimensions=("rule",), long_name="how often a rule fired"))
    if scales:
        said = "root mean square of a node's linear part for standard normal images"
        found = np.array(list(scales.values()))
        coordinates.append(Coordinate(name="node", values=tuple(scales), long_name="node of the graph"))
        variables.append(Variable(name="scale", data=found, dimensions=("node",), long_name=said))
    return Group(
        name=name,
        kind="linearize",
        coordinates=tuple(coordinates),
        variables=tuple(variables),
        attributes={"rulesets": ", ".join(rules), "verdict": certificate.verdict, "certificate": certificate.reason},
        provenance=provenance,
    )

"""The stage kind `extract`: W, b and C of a linear sub-network (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from surgery.errors import InputError
from surgery.graph import load_graph
from surgery.hierarchy import block_contrast
from surgery.hierarchy.hierarchy import numbered
from surgery.linear import AffineCertificate, LinearMap, correlate, extract, linearize, spectrum
from surgery.stages.fields import Reference
from surgery.stages.findings import Contrast, Finding
from surgery.stages.sources import Rules, SourceStage
from surgery.stages.stage import Context, Figures, Finished, Sizes, as_array, has
from surgery.store import Coordinate, Group, Variable, class_coordinates
from surgery.validation import refusal


class ExtractStage(SourceStage):
    """Reads weight matrix, bias and correlations off the linear sub-network (paper, section 3.1)."""

    heading: ClassVar[str] = "Stage `extract`"
    sections = (Contrast.section,)

    kind: Literal["extract"] = Field(description="W, b and C of a linear sub-network.")
    graph: Annotated[str, Reference(kinds=("linearize",))] | None = Field(
        default=None, description="A linearize stage, instead of a train stage."
    )
    rules: Rules | None = Field(
        default=None, description="Rulesets that linearize the network; `linearize` by default."
    )
    at: str | None = Field(default=None, description="Node or module path that is taken as the output.")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        self.check_source("graph")
        if self.graph is not None and self.rules is not None:
            raise refusal("rules belong to a network; a linearize stage has its own", key="rules")
        return self

    def passes(self, sizes: Sizes) -> int:
        return sizes.classes

    def run(self, context: Context) -> Group:
        if self.graph is not None:
            graph = load_graph(context.folder.graph(context.stage.inputs["graph"].stage))
        else:
            assert self.rules is not None, "loading a recipe fills in the rules"
            example = torch.zeros((1, *context.data.input_shape))
            graph = linearize(context.network(self.file, self.network), example, rules=list(self.rules)).module
        map = extract(
            graph,
            at=self.at,
            device=context.device,
            progress=context.steps("pulling classes back to the image"),
        )
        assert map.certificate is not None, "extraction certifies"
        # At an inner node the rows of W are features, which have no names, and can be too many to compare in pairs.
        names = context.data.class_names if self.at is None else numbered(len(map.bias))
        group = linear_group(
            map,
            certificate=map.certificate,
            class_names=names,
            provenance=context.provenance(),
            name=context.name,
            correlations=self.at is None or len(names) <= MOST_CORRELATED,
        )
        for text in (*undefined_texts(group), *([] if has(group, "correlation") else [LEFT_OUT.format(len(names))])):
            context.tell(text=text, lasting=True)
        return group

    def draw(self, finished: Finished) -> Figures:
        from surgery.report import figures

        group, title = finished.group, finished.title
        names = tuple(map(str, group["class"]))
        ordered, weight = finished.ordered(names), group["weight"]
        drawn: Figures = {}
        if has(group, "correlation"):
            C, centered = group["correlation"], group["correlation_centered"]
            rank = float(group.attributes["effective_rank"])
            drawn = {
                "correlation": lambda: figures.correlation(C, names, title=title, **ordered),
                "correlation-centered": lambda: figures.correlation(
                    centered, names, centered=True, title=title, **ordered
                ),
                "spectrum": lambda: figures.spectrum(group["singular_value"], rank, title=title),
            }
        if weight.ndim == 4 and weight.shape[1] in (1, 3) and len(weight) <= figures.MOST_PANELS:
            compared = [peer.group["weight"] for peer in finished.peers]
            ends = [figures.weight_scale([other]) for other in compared if other.shape == weight.shape]
            # Without batch norms, W of one network can be a thousand times that of another, which would be all gray.
            limit = max(ends) if max(ends) <= MOST_APART * min(ends) else None
            return {**drawn, "weights": lambda: figures.weights(weight, names, limit=limit, title=title)}
        return drawn

    def findings(self, finished: Finished) -> Iterable[Finding]:
        """Block contrast of C, plain and centered, if the known hierarchy has blocks to compare."""
        group = finished.group
        known = finished.known_for(tuple(map(str, group["class"])))
        blocks = known is not None and 1 < known.num_superclasses < len(known.class_names)
        if known is None or not blocks or not has(group, "correlation"):
            return
        for matrix, name in {"C": "correlation", "C centered": "correlation_centered"}.items():
            try:
                contrast = block_contrast(group[name].copy(), known.superclass)
            except InputError:  # too few classes have weights: their rows of C are NaN
                continue
            yield Contrast(stage=finished.stage.name, model=finished.model, matrix=matrix, block_contrast=contrast)


AXES = ("channel", "row", "column")
"""The dimensions of an image."""

MOST_CORRELATED = 2048
"""The largest number of rows of W, at an inner node, for which C and the spectrum are computed without being asked for.
Memory grows with its square: for 16,384 rows, each of the two C takes 2 GB.
"""

MOST_APART = 4.0
"""Figures of W share one scale if their own scales differ by at most this factor."""

LEFT_OUT = "C and the spectrum of {} rows of W were left out"
"""Said where C and the spectrum were not computed."""


def linear_group(
    map: LinearMap,
    *,
    certificate: AffineCertificate,
    class_names: tuple[str, ...],
    provenance: Mapping[str, str],
    name: str = "linear",
    correlations: bool = True,
) -> Group:
    """W, b, both kinds of C, the spectrum of W and the scale of every node (sections 3.1, 3.2).

    A class whose weight vector is zero (or the mean of all, if centered) has NaN in C; an attribute names it. Without
    `correlations` the group has neither C nor a spectrum.
    """
    coordinates: list[Coordinate] = []
    variables: list[Variable] = []
    attributes: dict[str, str | float] = {}
    if correlations:
        coordinates, variables, attributes = _relations(map, class_names)
    axes = AXES if len(map.input_shape) == len(AXES) else tuple(f"axis_{i}" for i in range(len(map.input_shape)))
    sizes = zip(axes, map.input_shape, strict=True)
    return Group(
        name=name,
        kind="linear",
        coordinates=(
            *class_coordinates(class_names),
            *[Coordinate(name=axis, values=np.arange(size), long_name=f"{axis} of an image") for axis, size in sizes],
            *coordinates,
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
            *variables,
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
            **attributes,
        },
        provenance=provenance,
    )


def _relations(
    map: LinearMap, class_names: tuple[str, ...]
) -> tuple[list[Coordinate], list[Variable], dict[str, str | float]]:
    """Both kinds of C and the spectrum of W: coordinates, variables and attributes."""
    found = spectrum(map)
    pair = ("class", "class_other")
    plain, centered = (correlate(map, center=center, undefined="nan") for center in (False, True))
    variables = [
        Variable(
            name="correlation",
            data=as_array(plain),
            dimensions=pair,
            long_name="correlation of weight vectors",
            comment="cosine of the angle between the weight vectors of two classes, eq. 7",
        ),
        Variable(
            name="correlation_centered",
            data=as_array(centered),
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
    ]
    attributes: dict[str, str | float] = {
        "effective_rank": found.effective_rank,
        "stable_rank": found.stable_rank,
    }
    for matrix, name, why in ((plain, "correlation", "zero"), (centered, "correlation_centered", "the mean of all")):
        missing = [class_names[row] for row in matrix.diagonal().isnan().nonzero().flatten().tolist()]
        if missing:
            attributes[f"{name}_undefined"] = f"NaN for {', '.join(missing)}: the weight vector is {why}"
    components = np.arange(len(found.singular_values))
    return [Coordinate(name="component", values=components, long_name="singular vector")], variables, attributes


def undefined_texts(group: Group) -> list[str]:
    """For each kind of C with classes that have no direction, a sentence that names them."""
    names = ("correlation", "correlation_centered")
    said = {name: group.attributes.get(f"{name}_undefined") for name in names}
    return [f"{name} is {text}" for name, text in said.items() if text is not None]

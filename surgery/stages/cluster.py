"""The stage kind `cluster`: superclasses from C, with scores against a known hierarchy (paper, section 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from surgery.errors import InputError
from surgery.hierarchy import Hierarchy, Method, Scores
from surgery.hierarchy import cluster as find_superclasses
from surgery.stages.fields import DATA, HierarchyReference, Reference, Superclasses
from surgery.stages.findings import Cell, Finding, Grid, Section, chance_text
from surgery.stages.stage import Context, Figures, Finished, StageTable, as_array, has, hierarchy_in
from surgery.store import Coordinate, Group, Variable, class_coordinates


class ClusterStage(StageTable):
    """Groups the classes by the correlations of their weight vectors (paper, section 4)."""

    heading: ClassVar[str] = "Stage `cluster`"

    kind: Literal["cluster"] = Field(description="Superclasses from C.")
    map: Annotated[str, Reference(kinds=("extract",))] = Field(description="An extract stage.")
    superclasses: Superclasses = Field(description="Number of superclasses, or how to choose it: `gap`, `silhouette`.")
    method: Method = Field(default="average", description="Linkage on 1 - C, or spectral clustering.")
    centered: bool = Field(default=False, description="Take C of the weights without their mean over classes.")
    reference: HierarchyReference = Field(
        default=DATA,
        description="Known hierarchy for the scores: its name, a file, or `data` for the data set's, if it has one.",
    )

    def run(self, context: Context) -> Group:
        found = context.folder.read(context.stage.inputs["map"].stage)
        names = tuple(str(name) for name in found["class"])
        # Of the store, not of the graph: clustering runs again without extraction, and reads what users read.
        matrix = correlations_in(found, centered=self.centered)
        hierarchy = find_superclasses(matrix, superclasses=self.superclasses, method=self.method, class_names=names)
        reference = context.hierarchy("reference", self.reference)
        if self.reference == DATA and reference is not None:
            # At an inner node the rows are features; and a hierarchy of one superclass, or of single classes, has no
            # blocks to compare.
            tells = names == reference.class_names and 1 < reference.num_superclasses < len(names)
            reference = reference if tells else None
        return hierarchy_group(
            hierarchy,
            scores=None if reference is None else hierarchy.scores(matrix, reference),
            reference=reference,
            centered=self.centered,
            provenance=context.provenance(),
            name=context.name,
        )

    def draw(self, finished: Finished) -> Figures:
        """C in the order of the superclasses that were found, with the dendrogram if there is one."""
        from surgery.report import figures

        which = str(finished.group.attributes["correlation"])
        C, centered, title = finished.input("map")[which], which == "correlation_centered", finished.title
        found = hierarchy_in(finished.group)
        if found.merges:
            return {"dendrogram": lambda: figures.dendrogram(C, found, centered=centered, title=title)}
        return {
            "superclasses": lambda: figures.correlation(
                C, found.class_names, hierarchy=found, order="hierarchy", centered=centered, title=title
            )
        }

    def findings(self, finished: Finished) -> Iterable[Finding]:
        names, numbers = [str(name) for name in finished.group["class"]], finished.group["superclass"]
        scores = finished.group.attributes
        groups = (
            tuple(name for name, own in zip(names, numbers, strict=True) if own == number)
            for number in range(int(numbers.max()) + 1)
        )
        yield FoundSuperclasses(
            stage=finished.stage.name,
            model=finished.model,
            groups=tuple(groups),
            adjusted_rand_index=_number(scores.get("adjusted_rand_index")),
            p_value=_number(scores.get("p_value")),
        )


def correlations_in(group: Group, *, centered: bool) -> NDArray[np.float64]:
    """C `(classes, classes)` of an `extract` group; raises InputError without one, and for classes without weights."""
    name = "correlation_centered" if centered else "correlation"
    if not has(group, name):
        raise InputError(
            f"the group {group.name!r} has no correlations of its {len(group['class'])} rows",
            hint="surgery extract --correlation computes them for any number of rows",
        )
    matrix = group[name].copy()
    undefined = [str(label) for label, value in zip(group["class"], matrix.diagonal(), strict=True) if np.isnan(value)]
    if undefined:
        raise InputError(
            f"{name} in the group {group.name!r} is NaN for {', '.join(undefined)}: a weight vector without a direction"
            " cannot be clustered",
        )
    return matrix


@dataclass(frozen=True, kw_only=True)
class FoundSuperclasses(Finding):
    """Superclasses by class names, and how well they agree with the reference."""

    stage: str
    model: str
    groups: tuple[tuple[str, ...], ...]
    adjusted_rand_index: float | None
    p_value: float | None


def _lines(found: Sequence[FoundSuperclasses]) -> list[str]:
    lines = []
    for row in found:
        groups = " | ".join(", ".join(names) for names in row.groups)
        score = "" if row.adjusted_rand_index is None else f"; adjusted Rand index {row.adjusted_rand_index:.2f}"
        chance = "" if row.p_value is None else f", p = {row.p_value:.2g}"
        lines.append(f"{row.model} [{row.stage}]: {groups}{score}{chance}")
    return lines


def _grid(found: Sequence[FoundSuperclasses]) -> Grid:
    models = [row.model for row in found]
    rows = []
    for row in found:
        score = "" if row.adjusted_rand_index is None else f"{row.adjusted_rand_index:.2f}"
        chance = "" if row.p_value is None else f"p {chance_text(row.p_value)}"
        # The stage tells two clusterings of one network apart.
        stage = row.stage if models.count(row.model) > 1 else ""
        groups = tuple(", ".join(names) for names in row.groups)
        name = Cell(text=row.model, detail=stage, tone="strong")
        rows.append((name, Cell(text=score), Cell(detail=chance), Cell(parts=groups)))
    note = "agreement with the known ones: adjusted Rand index, p of the block contrast"
    return Grid(rows=tuple(rows), note=note)


FoundSuperclasses.section = Section(
    key="superclasses",
    title="Superclasses found",
    line_title="Superclasses found",
    place=40,
    lines=_lines,
    grid=_grid,
)
ClusterStage.sections = (FoundSuperclasses.section,)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def hierarchy_group(
    hierarchy: Hierarchy,
    *,
    scores: Scores | None,
    reference: Hierarchy | None,
    centered: bool,
    provenance: Mapping[str, str],
    name: str = "hierarchy",
) -> Group:
    """Superclasses, C_op, dendrogram, and the scores against a reference (section 4)."""
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

"""`surgery cluster`: superclasses from the correlations in a store, with scores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from surgery_cli import options
from surgery_cli.console import Output

if TYPE_CHECKING:
    from surgery.hierarchy import Hierarchy, Scores

Store = Annotated[Path, typer.Argument(metavar="STORE", help="A store (.h5) that surgery extract wrote.")]
Count = Annotated[
    str,
    typer.Option(
        "--superclasses", metavar="N|gap|silhouette", help="Number of superclasses, or the criterion that selects it."
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="NAME|FILE",
        help="Known hierarchy for the scores: cifar10, cifar100, stl10, or a file.",
    ),
]


def cluster(
    store: Store,
    superclasses: Count = "2",
    reference: Reference = None,
    method: Annotated[
        Literal["average", "complete", "single", "ward", "spectral"],
        typer.Option("--method", help="Linkage of the hierarchical clustering, or spectral clustering."),
    ] = "average",
    centered: Annotated[
        bool, typer.Option("--centered", help="Use the correlations of the centered weight vectors.")
    ] = False,
    source: Annotated[
        str, typer.Option("--from", metavar="GROUP", help="Group that holds the correlations.")
    ] = "linear",
    group: Annotated[str, typer.Option("--group", metavar="NAME", help="Name of the group to write.")] = "hierarchy",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the group if it exists.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Find superclasses in the correlations of a store.

    Classes are clustered by the correlations of their weight vectors. The superclasses, the dendrogram and the scores
    against a known hierarchy are written to the store as a new group.

    \b
    surgery cluster W.h5
    surgery cluster W.h5 --superclasses silhouette --centered --group centered
    surgery cluster W.h5 --superclasses 2 --reference cifar10
    """
    out = Output(as_json=as_json, debug=debug)
    start = time.perf_counter()
    with out.working("reading"):
        from surgery.hierarchy import cluster as find
        from surgery.hierarchy import load_hierarchy
        from surgery.stages.cluster import hierarchy_group
        from surgery.store import provenance, read_group, write_group

        found = read_group(store, source)
    names = tuple(str(name) for name in found["class"])
    known = None if reference is None else load_hierarchy(reference)
    matrix = found["correlation_centered" if centered else "correlation"].copy()
    hierarchy = find(matrix, superclasses=_count(superclasses), method=method, class_names=names)
    scores = None if known is None else hierarchy.scores(matrix, known)
    parameters = {
        "superclasses": superclasses,
        "method": method,
        "centered": centered,
        "reference": reference,
        "from": source,
    }
    written = hierarchy_group(
        hierarchy,
        scores=scores,
        reference=known,
        centered=centered,
        provenance=provenance(parameters=parameters, wall_seconds=time.perf_counter() - start),
        name=group,
    )
    write_group(store, written, replace=replace)
    out.data(
        {
            "written": str(store),
            "group": group,
            "superclasses": [[hierarchy.class_names[i] for i in members] for members in hierarchy.groups],
            "scores": None if scores is None else vars(scores),
        }
    )
    out.show(*_view(hierarchy, scores))
    out.note(f"written: group {group} of {store}")


def _count(text: str) -> int | Literal["gap", "silhouette"]:
    """The number of superclasses, or the criterion that selects it; raises InputError."""
    from surgery.errors import InputError, suggest

    if text in ("gap", "silhouette"):
        return text
    if not text.isdigit():
        hint = suggest(text, ("gap", "silhouette"))
        raise InputError(f"--superclasses {text}: expected a number, gap or silhouette", hint=hint)
    return int(text)


def _view(hierarchy: Hierarchy, scores: Scores | None) -> list[str]:
    """The members of each superclass, and the scores against the known hierarchy, if one was given."""
    lines = [f"{hierarchy.num_superclasses} superclasses, {hierarchy.method}"]
    for number, members in enumerate(hierarchy.groups):
        lines.append(f"  {number}  {', '.join(hierarchy.class_names[i] for i in members)}")
    if scores is not None:
        lines += [
            f"adjusted Rand index {scores.adjusted_rand_index:.2f},"
            f" adjusted mutual information {scores.adjusted_mutual_information:.2f}",
            f"block contrast {scores.block_contrast:.2f}, p = {scores.p_value:.2g}",
        ]
        if scores.cophenetic_correlation is not None:
            lines.append(f"cophenetic correlation {scores.cophenetic_correlation:.2f}")
    return lines

"""`surgery cluster`: superclasses from the correlations in a store, with scores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.loading import parse_class_names

if TYPE_CHECKING:
    from surgery.hierarchy import Hierarchy, Scores
    from surgery.store import Group

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
Names = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        metavar="NAME|A,B,...",
        help="Names of the classes in label order, for a store without names: those of a known hierarchy, or a list.",
    ),
]


def cluster(
    store: Store,
    superclasses: Count = "2",
    reference: Reference = None,
    class_names: Names = None,
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
    against a known hierarchy are written to the store as a new group. Classes are matched with the known hierarchy by
    their names.

    \b
    surgery cluster W.h5
    surgery cluster W.h5 --superclasses silhouette --centered --group centered
    surgery cluster W.h5 --superclasses 2 --reference cifar10
    surgery cluster W.h5 --class-names cat,car,dog --reference superclasses.toml
    """
    out = Output(as_json=as_json, debug=debug)
    start = time.perf_counter()
    with out.working("reading"):
        from surgery.hierarchy import cluster as find
        from surgery.stages.cluster import correlations_in, hierarchy_group
        from surgery.store import provenance, read_group, write_group

        found = read_group(store, source)
    matrix = correlations_in(found, centered=centered)
    names = _names(found, class_names, store)
    known = None if reference is None else _reference(reference, names, store)
    hierarchy = find(matrix, superclasses=_count(superclasses), method=method, class_names=names)
    scores = None if known is None else hierarchy.scores(matrix, known)
    parameters = {
        "superclasses": superclasses,
        "method": method,
        "centered": centered,
        "reference": reference,
        "from": source,
        **({} if class_names is None else {"class_names": class_names}),
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


def _names(found: Group, text: str | None, store: Path) -> tuple[str, ...]:
    """The names of the classes: those of --class-names, else those in the store; raises InputError if they disagree."""
    from surgery.errors import InputError
    from surgery.hierarchy.hierarchy import numbered

    stored = tuple(str(name) for name in found["class"])
    if text is None:
        return stored
    names = parse_class_names(text, len(stored))
    if stored not in (names, numbered(len(stored))):
        raise InputError(
            f"--class-names {text}: the classes of {store} have other names, {', '.join(stored[:4])}, ...",
            hint="omit --class-names",
        )
    return names


def _reference(text: str, names: tuple[str, ...], store: Path) -> Hierarchy:
    """The known hierarchy of these classes, matched by name; raises InputError where a class has no superclass."""
    from surgery.errors import InputError
    from surgery.hierarchy import load_hierarchy
    from surgery.hierarchy.hierarchy import numbered

    known = load_hierarchy(text)
    if names == numbered(len(names)) != known.class_names:
        raise InputError(
            f"{store}: the classes have no names, only the numbers 0 to {len(names) - 1}, so --reference {text} cannot"
            " be matched with them",
            hint="give them in label order, as in --class-names cat,car,dog or --class-names cifar10",
        )
    return known.matched(names)


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

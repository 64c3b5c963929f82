"""`surgery extract`: W, b and C of a linear sub-network, into a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.loading import graph_of, open_module, parse_class_names

if TYPE_CHECKING:
    from surgery.linear import LinearMap

Store = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE.h5", help="Store that the group is added to.", rich_help_panel=options.RESULT
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="NODE",
        help="Extract the map of an inner node or module instead of the map of the output.",
        rich_help_panel=options.RESULT,
    ),
]
Name = Annotated[
    str, typer.Option("--group", metavar="NAME", help="Name of the group.", rich_help_panel=options.RESULT)
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a group of that name.", rich_help_panel=options.RESULT)
]
Names = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        metavar="NAME|A,B,...",
        help="Names of the classes: those of a known hierarchy (cifar10, stl10, cifar100), or a list."
        "  [default: those of the model file]",
        rich_help_panel=options.RESULT,
    ),
]
Correlation = Annotated[
    bool | None,
    typer.Option(
        "--correlation/--no-correlation",
        help="Compute C and the spectrum of W.  [default: at the output; at an inner node with at most 2,048 rows]",
        show_default=False,
        rich_help_panel=options.RESULT,
    ),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--max-memory",
        metavar="GIB",
        min=0.001,
        max=1e6,
        help="Memory for products, in GiB.  [default: a quarter of the free memory]",
        rich_help_panel=options.RESULT,
    ),
]


def extract(
    output: Store,
    model: options.ModelOptions,
    rules: options.Rules = None,
    at: At = None,
    group: Name = "linear",
    replace: Replace = False,
    class_names: Names = None,
    correlation: Correlation = None,
    max_memory: Memory = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Write W and C of a linear sub-network to a store.

    Weight matrix, bias, both kinds of correlation, spectrum and scales make one group. An affine graph is used
    unchanged; any other model is linearized first.

    \b
    surgery extract linear.safetensors -o W.h5
    surgery extract model.pt --arch resnet18 --class-names cifar10 -o W.h5
    surgery extract model.pt --arch resnet18 --at layer3 --group layer3 -o W.h5
    """
    from surgery.files import check_writable

    check_writable(output)
    out = Output(as_json=as_json, debug=debug)
    loaded = open_module(model, out)
    opened = graph_of(loaded, model, out)
    from surgery.graph import weight_digest
    from surgery.linear import extract as extract_map
    from surgery.linear import linearize
    from surgery.stages.extract import LEFT_OUT, MOST_CORRELATED, linear_group, undefined_texts
    from surgery.store import provenance, write_group

    parameters = {
        "model_source": opened.source,
        "model_file": None if model.path is None else str(model.path),
        "architecture": model.architecture,
        "factory": model.factory,
        "arguments": model.arguments,
        "weight_digest": weight_digest(loaded.module),
        "rules": rules or ["linearize"],
    }
    del loaded  # the graph has its own copy of the weights
    start = time.perf_counter()
    with out.working("linearizing"):
        # Rules that were named are applied in any case; without any, an affine graph is taken as it is.
        network = linearize(opened.graph, rules=rules) if rules else opened.graph
    with out.progress("extracting") as progress:
        map = extract_map(
            network,
            rules=None if rules else "linearize",
            at=at,
            max_memory=None if max_memory is None else int(max_memory * 2**30),
            progress=progress,
        )
    assert map.certificate is not None, "every extraction has a certificate"
    rows = len(map.bias)
    related = (at is None or rows <= MOST_CORRELATED) if correlation is None else correlation
    with out.working("correlating"):
        written = linear_group(
            map,
            certificate=map.certificate,
            class_names=_class_names(class_names, map),
            provenance=provenance(
                parameters={
                    **map.provenance,
                    **{name: value for name, value in parameters.items() if value is not None},
                },
                device=str(map.provenance["device"]),
                seeds={"weights": model.seed} if model.path is None else {},
                wall_seconds=time.perf_counter() - start,
            ),
            name=group,
            correlations=related,
        )
    write_group(output, written, replace=replace)
    facts = {key: value for key, value in written.attributes.items() if key not in ("model", "node")}
    out.data({"written": str(output), "group": group, "weight": list(map.weight.shape), **map.provenance, **facts})
    shape, said = "x".join(str(size) for size in map.weight.shape), map.provenance
    out.show(
        f"{opened.graph.model_name}  {opened.source}",
        f"  W {shape}, {said['products']} products of node {said['basis']}, {said['dtype']} on {said['device']},"
        f" {float(said['seconds']):.2f} s",
    )
    if related:
        out.show(f"  effective rank {facts['effective_rank']:.2f}, stable rank {facts['stable_rank']:.2f}")
    for text in undefined_texts(written):
        out.warn(text)
    if correlation is None and not related:
        out.note(f"{LEFT_OUT.format(rows)} (--correlation computes them)")
    out.note(f"written: group {group} of {output}")


def _class_names(text: str | None, map: LinearMap) -> tuple[str, ...]:
    """The names of --class-names, else those of the model file, else numbers."""
    from surgery.hierarchy.hierarchy import numbered

    if text is None:
        return map.class_names or numbered(len(map.bias))
    return parse_class_names(text, len(map.bias))

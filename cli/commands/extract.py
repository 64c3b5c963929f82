"""`surgery extract`: W, b and C of a linear sub-network, into a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.loading import ModelOptions, graph_of, open_module

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
        help="Names of the classes: those of a known hierarchy (cifar10, stl10, cifar100), or a list.",
        rich_help_panel=options.RESULT,
    ),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--max-memory",
        metavar="GIB",
        min=0.001,
        help="Memory for products, in GiB.  [default: a quarter of the free memory]",
    ),
]


def extract(
    output: Store,
    model: options.ModelFile = None,
    rules: options.Rules = None,
    at: At = None,
    group: Name = "linear",
    replace: Replace = False,
    class_names: Names = None,
    max_memory: Memory = None,
    arch: options.Architecture = None,
    input_shape: options.InputShape = None,
    num_classes: options.Classes = None,
    arg: options.Arguments = None,
    factory: options.Factory = None,
    trust_pickle: options.TrustPickle = False,
    seed: options.Seed = 0,
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
    wanted = ModelOptions(
        path=model,
        architecture=arch,
        input_shape=input_shape,
        classes=num_classes,
        arguments=arg,
        factory=factory,
        trust_pickle=trust_pickle,
        seed=seed,
    )
    loaded = open_module(wanted, out)
    opened = graph_of(loaded, wanted, out)
    from surgery.graph import weight_digest
    from surgery.linear import extract as extract_map
    from surgery.linear import linearize
    from surgery.stages.extract import linear_group
    from surgery.store import provenance, write_group

    parameters = {
        "model_source": opened.source,
        "model_file": None if model is None else str(model),
        "architecture": arch,
        "factory": factory,
        "arguments": arg,
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
    written = linear_group(
        map,
        certificate=map.certificate,
        class_names=_class_names(class_names, len(map.bias)),
        provenance=provenance(
            parameters={
                **map.provenance,
                **{name: value for name, value in parameters.items() if value is not None},
            },
            device=str(map.provenance["device"]),
            seeds={"weights": seed} if model is None else {},
            wall_seconds=time.perf_counter() - start,
        ),
        name=group,
    )
    write_group(output, written, replace=replace)
    facts = {key: written.attributes[key] for key in ("effective_rank", "stable_rank", "certificate")}
    out.data({"written": str(output), "group": group, "weight": list(map.weight.shape), **map.provenance, **facts})
    shape, said = "x".join(str(size) for size in map.weight.shape), map.provenance
    out.show(
        f"{opened.graph.model_name}  {opened.source}",
        f"  W {shape}, {said['products']} products of node {said['basis']}, {said['dtype']} on {said['device']},"
        f" {float(said['seconds']):.2f} s",
        f"  effective rank {facts['effective_rank']:.2f}, stable rank {facts['stable_rank']:.2f}",
    )
    out.note(f"written: group {group} of {output}")


def _class_names(text: str | None, count: int) -> tuple[str, ...]:
    from surgery.errors import InputError
    from surgery.hierarchy import NAMED, named

    if text is None:
        return tuple(str(label) for label in range(count))
    names = (
        tuple(part.strip() for part in text.split(",")) if "," in text or text not in NAMED else named(text).class_names
    )
    if len(names) != count or len(set(names)) != count:
        raise InputError(
            f"--class-names {text}: expected {count} different names, one for each output; got {len(set(names))}"
        )
    return names

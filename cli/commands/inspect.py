"""`surgery inspect`: show a model or a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.loading import open_graph
from surgery_cli.writing import chosen_format, deliver

FORMATS = ("tree", "table", "json", "dot", "graphml", "svg")

Format = Annotated[
    Literal["tree", "table", "json", "dot", "graphml", "svg"] | None,
    typer.Option(
        "--format", help="Output format.  [default: tree, or by the extension of -o]", rich_help_panel=options.OUTPUT
    ),
]

File = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write to FILE instead of printing.", rich_help_panel=options.OUTPUT
    ),
]

Depth = Annotated[
    int | None,
    typer.Option(
        "--depth", metavar="N", min=1, help="Levels of modules that the tree shows.", rich_help_panel=options.OUTPUT
    ),
]


def inspect(
    model: options.ModelOptions,
    format: Format = None,
    output: File = None,
    depth: Depth = None,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show a model or a graph, operation by operation.

    The tree and the table show shapes, attributes, and numbers of parameters and of buffers. A module that repeats the
    module before it is folded; -v unfolds it. In a table, -v adds the source line.

    \b
    surgery inspect linear.safetensors
    surgery inspect --arch torchvision:resnet18 --depth 1
    surgery inspect model.pt --arch resnet18 -o graph.svg
    surgery inspect checkpoint.pt --format dot | dot -Tpdf > graph.pdf
    """
    out = Output(as_json=as_json, debug=debug)
    chosen = chosen_format(format, output, default="tree", known=FORMATS)
    opened = open_graph(model, out)
    from surgery.graph.views.interchange import to_dot, to_graphml
    from surgery.graph.views.records import describe
    from surgery.graph.views.svg import to_svg
    from surgery_cli.show.operation import model_view
    from surgery_cli.show.tree import table_view, tree_view

    graph = opened.graph
    deliver(
        chosen,
        output,
        texts={
            "dot": lambda: to_dot(graph),
            "graphml": lambda: to_graphml(graph),
            "svg": lambda: to_svg(graph),
        },
        views={
            "tree": lambda: [*model_view(opened), tree_view(graph, depth=depth, verbose=verbose)],
            "table": lambda: [*model_view(opened), table_view(graph, verbose=verbose)],
        },
        data=lambda: describe(graph),
        out=out,
    )

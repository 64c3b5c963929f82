"""`surgery diff`: compare two graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.loading import open_either
from surgery_cli.writing import chosen_format, deliver

Before = Annotated[Path, typer.Argument(metavar="BEFORE", help="A model file or a saved graph.", show_default=False)]
After = Annotated[Path, typer.Argument(metavar="AFTER", help="The file to compare it with.", show_default=False)]

Format = Annotated[
    Literal["text", "json", "svg"] | None,
    typer.Option(
        "--format", help="Output format.  [default: text, or by the extension of -o]", rich_help_panel=options.OUTPUT
    ),
]

File = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write to FILE instead of printing.", rich_help_panel=options.OUTPUT
    ),
]


def diff(
    before: Before,
    after: After,
    model: options.NetworkOptions,
    format: Format = None,
    output: File = None,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Compare two graphs: the differences, by node and by rule.

    The model options apply to a file that holds weights only.

    \b
    surgery diff linear.safetensors other.safetensors
    surgery diff model.pt linear.safetensors --arch resnet18
    surgery diff before.safetensors after.safetensors -o difference.svg
    """
    out = Output(as_json=as_json, debug=debug)
    chosen = chosen_format(format, output, default="text", known=("text", "json", "svg"))
    first, second = open_either(model.of_file(before), out), open_either(model.of_file(after), out)
    from surgery.graph import difference
    from surgery_cli.show.difference import difference_view

    with out.working("comparing"):
        found = difference.diff(first.graph, second.graph)
    deliver(
        chosen,
        output,
        texts={"svg": lambda: difference.difference_svg(first.graph, second.graph)},
        views={"text": lambda: difference_view(found, verbose=verbose)},
        data=lambda: difference.as_dict(found),
        out=out,
    )

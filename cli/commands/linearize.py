"""`surgery linearize`: the linear sub-network of a model, with its certificate."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.operating import OutputOptions, by_rules, operate

DryRun = Annotated[
    bool,
    typer.Option(
        "--plan", "--dry-run", help="Print the planned edits; do not apply them.", rich_help_panel=options.RESULT
    ),
]


def linearize(
    model: options.ModelOptions,
    output: options.Result = None,
    rules: options.Rules = None,
    plan: DryRun = False,
    keep_going: options.KeepGoing = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> int:
    """Rewrite a model into its certified linear sub-network.

    The rules are those of the ruleset linearize, or of --rules, and the result has to be affine whatever they promise.
    Exits with 0 if it is certified. If it is not, nothing is written and the exit code is 1, unless --keep-going is
    given.

    \b
    surgery linearize --arch torchvision:resnet18
    surgery linearize model.pt --arch resnet18 --input 3x32x32 -o linear.safetensors
    surgery linearize checkpoint.pt --rules linearize-keep-bn --rules mine.toml -o linear.onnx
    surgery linearize checkpoint.pt --plan -o plan.toml
    """
    return operate(
        model,
        partial(by_rules, rules or ["linearize"]),
        OutputOptions(output=output, dry_run=plan, keep_going=keep_going, verbose=verbose),
        Output(as_json=as_json, debug=debug),
        promise="affine",
    )

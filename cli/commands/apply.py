"""`surgery apply`: any rules, or a saved plan, applied to a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from surgery.errors import InputError
from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.operating import OutputOptions, by_file, by_rules, operate

PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="A saved plan (surgery apply --dry-run -o plan.toml), edited or not, instead of rules.",
        rich_help_panel=options.RESULT,
    ),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the planned edits; do not apply them.", rich_help_panel=options.RESULT)
]


def apply(
    model: options.ModelOptions,
    output: options.Result = None,
    rules: options.Rules = None,
    plan: PlanFile = None,
    dry_run: DryRun = False,
    keep_going: options.KeepGoing = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> int:
    """Rewrite a model by rules, or by a saved plan.

    A ruleset can promise that the result is affine, or that it computes the same function; both are checked. If a
    promise is broken, nothing is written and the exit code is 1, unless --keep-going is given.

    \b
    surgery apply model.pt --arch resnet18 --rules fold-batch-norm -o folded.safetensors
    surgery apply linear.safetensors --rules mine.toml --dry-run
    surgery apply checkpoint.pt --plan plan.toml -o rewritten.safetensors
    """
    if bool(rules) == (plan is not None):
        expected = "pass --rules or --plan" + (", not both" if rules else "")
        raise InputError(expected, hint="surgery rules lists the shipped rulesets")
    return operate(
        model,
        partial(by_file, plan) if plan is not None else partial(by_rules, rules or []),
        OutputOptions(output=output, dry_run=dry_run, keep_going=keep_going, verbose=verbose),
        Output(as_json=as_json, debug=debug),
    )

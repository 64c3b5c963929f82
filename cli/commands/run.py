"""`surgery run`: a recipe from its data to its summary."""

from __future__ import annotations

from typing import Annotated

import typer

from surgery_cli import options
from surgery_cli.console import Output

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would run, as surgery plan does.", rich_help_panel=options.RECIPE)
]


def run(
    recipe: options.RecipeName,
    overrides: options.Overrides = None,
    stage: options.StageNames = None,
    dry_run: DryRun = False,
    download: options.Download = False,
    output: options.RunFolder = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Run a recipe: train, linearize, attack, compare.

    Stages that are finished in the run folder are skipped; after an interruption, rerun the same command to resume.
    Ctrl-C stops after the current batch; a second Ctrl-C stops at once.

    \b
    surgery run quickstart
    surgery run recipes/cifar10_small.toml --download -o results/small
    surgery run mine.toml --set stage.at.epochs=2 --set data.train_size=1000
    surgery run mine.toml --stage robustness --json
    surgery run quickstart --dry-run
    """
    from surgery_cli.running import RunOptions, carry_out, open_recipe

    out = Output(as_json=as_json, debug=debug)
    given = RunOptions(
        recipe=recipe,
        overrides=overrides or (),
        stages=tuple(stage or ()),
        output=output,
        device=device,
        download=download,
        quiet=quiet,
    )
    if dry_run:
        from surgery_cli.commands.plan import show_plan

        show_plan(given, out, verbose=verbose)
        return
    opened = open_recipe(given, out)
    command = ["run", recipe, *given.words()]
    found = carry_out(given, opened, given.stages or None, command=command, out=out)
    if found is None:
        return
    from surgery.stages.attack import FailedCheck
    from surgery_cli.show import run as view

    out.data(view.run_dict(opened, found))
    out.show(*view.summary_view(found.summary, verbose=verbose))
    for check in found.summary.of(FailedCheck.section):
        out.warn(f"check failed: {check.text}")
    if not quiet:
        out.show(*view.whereabouts(opened, found))

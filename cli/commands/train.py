"""`surgery train`: the training stages of a recipe, in several processes on request."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from surgery_cli import completion, options
from surgery_cli.commands.plan import show_plan
from surgery_cli.commands.run import DryRun
from surgery_cli.console import Output

if TYPE_CHECKING:
    from surgery.recipe import Recipe

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A shipped recipe by its name (surgery recipes ls), or a TOML file.",
        autocompletion=completion.recipes,
        show_default=False,
    ),
]

# The spelling of earlier versions, for scripts that have it.
RecipeOption = Annotated[str | None, typer.Option("--recipe", metavar="RECIPE", hidden=True)]

Processes = Annotated[
    int,
    typer.Option(
        "--nproc", metavar="N", min=1, help="Processes that share each batch, each with its own GPU if there are GPUs."
    ),
]


def train(
    recipe: RecipeArgument = None,
    named: RecipeOption = None,
    overrides: options.Overrides = None,
    stage: options.StageNames = None,
    dry_run: DryRun = False,
    download: options.Download = False,
    output: options.RunFolder = None,
    device: options.Device = None,
    processes: Processes = 1,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Run the training stages of a recipe.

    Their input stages are run too, for example for the hierarchy of the cluster penalty. The run folder is that of
    surgery run, which runs the other stages later. With --nproc, or under torchrun, several processes train together.

    \b
    surgery train quickstart
    surgery train mine.toml --stage at --set stage.at.epochs=30 --nproc 2
    surgery train quickstart --dry-run
    """
    from surgery.errors import InputError
    from surgery_cli.running import RunOptions, carry_out, open_recipe

    out = Output(as_json=as_json, debug=debug)
    if recipe is not None and named is not None:
        raise InputError(f"--recipe {named}: a recipe was given twice, also as {recipe}")
    recipe = named if recipe is None else recipe
    if recipe is None:
        raise InputError("expected a recipe: the name of a shipped one or a TOML file", hint="surgery train quickstart")
    given = RunOptions(
        recipe=recipe,
        overrides=overrides or (),
        stages=tuple(stage or ()),
        output=output,
        device=device,
        download=download,
        quiet=quiet,
    )
    opened = open_recipe(given, out)
    stages = _training_stages(opened, given.stages)
    if dry_run:
        show_plan(replace(given, stages=stages), out, verbose=False)
        return
    words = ["train", recipe, *given.words()]
    from surgery_cli.processes import check_processes, launched

    several = processes > 1
    if several:
        check_processes(processes, device)
    command = [*words, "--nproc", str(processes)] if several else words
    with launched(words, processes) if several else nullcontext():
        found = carry_out(given, opened, stages, command=command, out=out)
    if found is None:
        return
    from surgery_cli.show import run as view

    out.data(view.run_dict(opened, found))
    out.show(*view.training_view(opened, found))
    if not (quiet or as_json):
        rest = shlex.join(["surgery", "run", recipe, *replace(given, stages=()).words()])
        out.note(f"the other stages: {rest}")


def _training_stages(recipe: Recipe, names: tuple[str, ...]) -> tuple[str, ...]:
    """The selected training stages, all by default; raises InputError for others."""
    from surgery.errors import InputError, suggest

    stages = [stage for stage in recipe.stages if stage.kind == "train"]
    known = dict.fromkeys(name for stage in stages for name in (stage.base, stage.name))
    for name in names:
        if name not in known:
            hint = suggest(name, known) or (f"training stages are {', '.join(known)}" if known else None)
            raise InputError(f"--stage {name}: unknown training stage of {recipe.name}", hint=hint)
    if not stages:
        raise InputError(f"{recipe.source}: the recipe has no training stage")
    return names or tuple(stage.name for stage in stages)

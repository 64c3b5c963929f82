"""`surgery plan`: a preview of a run, with the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from surgery_cli import options
from surgery_cli.console import Output

if TYPE_CHECKING:
    from surgery.data import Dataset
    from surgery.recipe import Recipe
    from surgery_cli.running import RunOptions

Measure = Annotated[
    bool,
    typer.Option(
        "--time",
        help="Measure the speed of each network for about a second, to estimate times without an earlier run.",
        rich_help_panel=options.RECIPE,
    ),
]


def plan(
    recipe: options.RecipeName,
    overrides: options.Overrides = None,
    stage: options.StageNames = None,
    output: options.RunFolder = None,
    measure: Measure = False,
    device: options.Device = None,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show what a run of a recipe would do.

    Each stage is listed with its state, the reason for it, its parameters and its cost: about how many images go
    forward and backward through a network, and how long that takes by the times of an earlier run in the run folder.
    Nothing is downloaded, imported or written.

    \b
    surgery plan quickstart
    surgery plan quickstart --time
    surgery plan mine.toml -o results/mine --verbose
    surgery plan quickstart --set stage.robustness.attacks.pgd20.steps=50 --json
    """
    from surgery_cli.running import RunOptions

    given = RunOptions(
        recipe=recipe,
        overrides=overrides or (),
        stages=tuple(stage or ()),
        output=output,
        device=device,
        download=False,
        quiet=False,
    )
    show_plan(given, Output(as_json=as_json, debug=debug), verbose=verbose, measure=measure)


def show_plan(given: RunOptions, out: Output, *, verbose: bool, measure: bool = False) -> None:
    """Print the preview of a run; raises RecipeError, or InputError for a stage that does not exist.

    `measure`: measure the speed of networks, for the times of stages that no earlier run tells.
    """
    from surgery_cli.running import open_recipe

    recipe = open_recipe(given, out)
    from surgery.recipe import Sizes, preview_run
    from surgery.run import RunFolder, finished, wanted_stages
    from surgery.run.forecast import forecast, measured, remembered_digest, timings
    from surgery.train.engine import find_device
    from surgery_cli.show import recipe as view

    wanted = {stage.name for stage in wanted_stages(recipe, given.stages or None)}
    folder = RunFolder(path=given.folder(recipe))
    with out.working("reading the data"):
        data, missing = _data(recipe)
    digest = remembered_digest(recipe, folder) if data is None else data.digest
    sizes = None if data is None else Sizes.of_data(data)
    preview = preview_run(recipe, finished(folder), digest, sizes=sizes)
    preview = [stage for stage in preview if stage.name in wanted]
    device = find_device(given.device)
    times = forecast(preview, timings(folder, device=str(device)))
    if measure and data is not None:
        with out.working("measuring the speed of the networks"):
            times = {**measured(recipe, preview, data, device=device), **times}
    out.data(view.preview_dict(recipe, preview, times, folder=str(folder.path), data_missing=missing))
    out.show(*view.preview_view(recipe, preview, times, folder=str(folder.path), verbose=verbose, measured=measure))
    if missing is not None and digest is None:
        out.note(f"The data were not loaded, so no stage counts as finished: {missing}")
    elif missing is not None:
        out.note(f"The data were not loaded, and are taken for those of the last run: {missing}")


def _data(recipe: Recipe) -> tuple[Dataset | None, str | None]:
    """The data of a recipe, or the reason why they cannot be loaded."""
    from surgery.data.sources import user_reference
    from surgery.errors import InputError
    from surgery.recipe import RecipeError, load_data

    # A preview must be safe for the recipe of a stranger, so it imports no code that the recipe names.
    if user_reference(recipe.data.name) is not None:
        return None, f"{recipe.data.name} is your own code, which only a run imports"
    try:
        return load_data(recipe), None
    except RecipeError:
        raise
    except InputError as error:
        return None, error.message

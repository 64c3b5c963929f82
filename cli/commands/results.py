"""`surgery results`: list, show, compare, check and export the content of stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surgery_cli import options
from surgery_cli.application import Command
from surgery_cli.commands.export import GroupName, Store, VariableName, export, holding, read
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode

JSON_ENTRIES = 10_000
"""`show --json` omits the values of larger arrays, unless the variable is named."""

results = typer.Typer(name="results", rich_markup_mode=None)


@results.callback(invoke_without_command=True)
def _results(context: typer.Context) -> None:
    """List, show, compare, check and export the results of runs.

    \b
    surgery results ls runs/first
    surgery results show runs/first linear
    surgery results compare runs/first runs/second
    surgery results check runs/first
    surgery results export runs/first --csv -o tables
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@results.command("ls", cls=Command)
def ls(path: Store = Path(), as_json: options.AsJson = False, debug: options.Debug = False) -> None:
    """List the groups of a store with their kinds and variables.

    \b
    surgery results ls
    surgery results ls runs/first
    surgery results ls W.h5 --json
    """
    out = Output(as_json=as_json, debug=debug)
    from surgery.store import list_groups
    from surgery_cli.show import results as view

    found = list_groups(path)
    out.data({"groups": [view.summary_dict(item) for item in found]})
    out.show(*view.listing(found))


@results.command("show", cls=Command)
def show(
    path: Store,
    group: GroupName = None,
    variable: VariableName = None,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show groups: attributes, variables, matrices and provenance.

    A matrix with a row and a column for each class is drawn as colored blocks, ordered by the superclasses found in the
    same network, else by the known ones, else by label; a line says which. If the output is not a terminal, or NO_COLOR
    is set, the matrix is printed as numbers.

    \b
    surgery results show runs/first
    surgery results show runs/first linear
    surgery results show W.h5 linear --variable correlation
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("reading"):
        groups = read(path, group)
    from surgery.store.exporting import group_dict, variable_dict, variable_of
    from surgery_cli.show import results as view
    from surgery_cli.show.order import Orders

    if variable is None:
        out.data({"groups": [group_dict(item, limit=JSON_ENTRIES) for item in groups]})
        if not as_json:
            orders = Orders.read(path)
            for item in groups:
                out.show(*view.group_view(item, view.surface(orders.of(item), verbose=verbose)))
        return
    chosen = holding(groups, variable)
    found = variable_of(chosen, variable)
    out.data({"group": chosen.name, "name": found.name, **variable_dict(found)})
    if not as_json:
        order = Orders.read(path).of(chosen)
        out.show(*view.variable_view(chosen, found, view.surface(order, verbose=verbose)))


@results.command("compare", cls=Command)
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A store (.h5), or a run folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The store to compare it with.", show_default=False)],
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> int:
    """Compare two runs: parameters, accuracies with paired tests, and all results.

    Where both runs attacked the same images in groups of the same name, the accuracies are compared image by image with
    McNemar's exact test. The exit code is 0 if the results are the same, 1 if not. Differences of provenance and of
    times are shown, but do not count: they exist between any two runs.

    \b
    surgery results compare runs/first runs/second
    surgery results compare A.h5 B.h5 --json
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("comparing"):
        from surgery import store
        from surgery.run import changed_parameters, paired_accuracies
        from surgery_cli.show import comparison as view

        found = store.compare(first, second)
        accuracies, parameters = paired_accuracies(first, second), changed_parameters(first, second)
    out.data(view.comparison_dict(found, accuracies, parameters))
    out.show(*view.comparison_view(found, accuracies, parameters, first=first, second=second))
    return ExitCode.DONE if found.same else ExitCode.FAILED


@results.command("check", cls=Command)
def check(
    path: Store = Path(),
    remove: Annotated[
        bool,
        typer.Option(
            "--remove-damaged", help="Remove damaged groups, so that surgery run computes their stages again."
        ),
    ] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> int:
    """Compare a store, and the files of a run folder, with the digests that were written with them.

    The exit code is 0 if nothing is damaged, 1 if something is.

    \b
    surgery results check runs/first
    surgery results check W.h5 --json
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("reading"):
        from surgery.store import check_store, remove_groups
        from surgery_cli.show import checked as view

        groups = check_store(path)
        damaged = [item.name for item in groups if item.state == "damaged"]
        if damaged and remove:
            remove_groups(path, damaged)
        files = view.files_of(path, groups=groups, removed=remove)
    out.data(view.checked_dict(groups, files, removed=damaged if remove else []))
    out.show(*view.checked_view(groups, files, removed=damaged if remove else []))
    return ExitCode.FAILED if damaged or any(item.state != "intact" for item in files) else ExitCode.DONE


results.command("export", cls=Command)(export)

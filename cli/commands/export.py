"""`surgery results export`: results as tables, JSON and NumPy archives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgery.errors import InputError
from surgery.files import check_writable, write_atomically
from surgery_cli import options
from surgery_cli.console import Output, json_text, write_result

if TYPE_CHECKING:
    from surgery.store import Group

Store = Annotated[Path, typer.Argument(metavar="PATH", help="A store (.h5), or a run folder with results.h5 in it.")]

GroupName = Annotated[
    str | None, typer.Argument(metavar="GROUP", help="One group of the store.  [default: all]", show_default=False)
]

VariableName = Annotated[
    str | None,
    typer.Option("--variable", metavar="NAME", help="One variable of the group.", rich_help_panel=options.RESULT),
]


def export(
    path: Store,
    group: GroupName = None,
    variable: VariableName = None,
    csv: Annotated[
        bool,
        typer.Option("--csv", help="Write a folder of tables, or one with --variable.", rich_help_panel=options.RESULT),
    ] = False,
    npz: Annotated[
        bool, typer.Option("--npz", help="Write one NumPy archive of GROUP/VARIABLE.", rich_help_panel=options.RESULT)
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="The file or folder to write.", rich_help_panel=options.RESULT
        ),
    ] = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Write results as CSV, JSON or a NumPy archive.

    Without -o, JSON and the CSV of one variable go to stdout.

    \b
    surgery results export runs/first --csv -o tables
    surgery results export runs/first linear --variable correlation --csv
    surgery results export runs/first --json -o results.json
    surgery results export W.h5 linear --npz -o linear.npz
    """
    formats = [name for name, asked in (("csv", csv), ("json", as_json), ("npz", npz)) if asked]
    if len(formats) != 1:
        given = " and ".join(f"--{name}" for name in formats) or "none"
        raise InputError(f"expected one of --csv, --json, --npz; got {given}")
    [chosen] = formats
    # Here --json is a format: the output is the export itself, not a report on it. Errors are JSON, as everywhere.
    out = Output(as_json=False, debug=debug)
    is_folder = chosen == "csv" and variable is None
    if output is None and (chosen == "npz" or is_folder):
        what = "an archive" if chosen == "npz" else "a folder of tables"
        raise InputError(f"expected -o: {what} cannot go to stdout", hint="-o PATH; or --csv with --variable NAME")
    if output is not None and not is_folder:  # write_csv checks its folder
        check_writable(output)
    with out.working("reading"):
        groups = read(path, group)
    if variable is not None:
        from surgery.store.exporting import variable_of

        whole = holding(groups, variable)
        found = variable_of(whole, variable)
        # The coordinates of other variables would be written too.
        coordinates = tuple(item for item in whole.coordinates if item.name in found.dimensions)
        groups = [replace(whole, variables=(found,), coordinates=coordinates)]
    with out.working("writing"):
        _EXPORTS[chosen](groups, variable, output)
    if output is not None:
        out.note(f"written: {output}")


def read(path: Path, name: str | None) -> list[Group]:
    """The group `name` of the store at `path`, or all of them."""
    from surgery.store import list_groups, read_group

    names = [name] if name is not None else [item.name for item in list_groups(path)]
    return [read_group(path, item) for item in names]


def holding(groups: Sequence[Group], variable: str) -> Group:
    """The group that has the variable; raises InputError if no group or several groups have it."""
    found = [group for group in groups if any(item.name == variable for item in group.variables)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(item.name for item in found)
        raise InputError(f"variable {variable!r} is in several groups: {names}", hint="name the group as well")
    known = sorted({item.name for group in groups for item in group.variables})
    raise InputError(f"unknown variable {variable!r}", hint=f"known are: {', '.join(known) or 'none'}")


def _export_json(groups: Sequence[Group], variable: str | None, output: Path | None) -> None:
    from surgery.store.exporting import group_dict

    text = json_text({"groups": [group_dict(item) for item in groups]}) + "\n"
    if output is None:
        write_result(text)
    else:
        write_atomically(output, text.encode())


def _export_csv(groups: Sequence[Group], variable: str | None, output: Path | None) -> None:
    from surgery.store.exporting import csv_text, write_csv

    if variable is not None:
        text = csv_text(groups[0], variable)
        if output is None:
            write_result(text)
        else:
            write_atomically(output, text.encode())
    elif output is not None:
        write_csv(output, groups)


def _export_npz(groups: Sequence[Group], variable: str | None, output: Path | None) -> None:
    from surgery.store.exporting import write_npz

    if output is not None:
        write_npz(output, groups)


_EXPORTS: dict[str, Callable[[Sequence[Group], str | None, Path | None], None]] = {
    "csv": _export_csv,
    "json": _export_json,
    "npz": _export_npz,
}

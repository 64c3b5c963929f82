"""`surgery recipes`: list, show and copy shipped recipes, and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgery_cli import completion, options
from surgery_cli.application import Command
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode, problem, report

if TYPE_CHECKING:
    from surgery.errors import InputError
    from surgery.recipe import Recipe

SCHEMA = "recipe.schema.json"
"""The name of the schema file, to which the first lines of recipes refer."""

recipes = typer.Typer(name="recipes", rich_markup_mode=None)

Shipped = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A shipped recipe.", autocompletion=completion.shipped_recipes, show_default=False
    ),
]


@recipes.callback(invoke_without_command=True)
def _recipes(context: typer.Context) -> None:
    """List, show, copy and check recipes, and print their schema.

    \b
    surgery recipes ls
    surgery recipes show quickstart
    surgery recipes cp quickstart mine.toml
    surgery recipes check mine.toml
    surgery recipes schema
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@recipes.command("ls", cls=Command)
def ls(as_json: options.AsJson = False, debug: options.Debug = False) -> None:
    """List the shipped recipes with their purposes.

    \b
    surgery recipes ls
    surgery recipes ls --json
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("loading torch"):
        from surgery.recipe import shipped
    from surgery_cli.show.recipe import recipes_view

    found = shipped()
    out.data({"recipes": [{"name": name, "description": said} for name, said in found.items()]})
    out.show(*recipes_view(found))


@recipes.command("show", cls=Command)
def show(
    name: options.RecipeName,
    overrides: options.Overrides = None,
    whole: Annotated[bool, typer.Option("--whole", help="With its includes and --set, as a run saves it.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Print the text of a recipe.

    \b
    surgery recipes show quickstart
    surgery recipes show cifar10_small --whole
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("loading torch"):
        from surgery.recipe import load_recipe
        from surgery.recipe.reading import find_recipe
    from surgery.files import existing_file
    from surgery_cli.running import parse_overrides

    path = existing_file(find_recipe(name))
    if whole or overrides:
        text = load_recipe(name, parse_overrides(overrides or ())).text
    else:
        text = path.read_text(encoding="utf-8", errors="replace")
    out.data({"source": str(path), "text": text})
    if not as_json:
        typer.echo(text.rstrip("\n"))


@recipes.command("cp", cls=Command)
def cp(
    name: Shipped,
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE|FOLDER", help="Destination.  [default: its own name, in this folder]", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Copy a shipped recipe for editing.

    The recipes that it includes are copied too, and the schema, by which editors complete and check recipes.

    \b
    surgery recipes cp quickstart
    surgery recipes cp cifar10_small mine.toml
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("loading torch"):
        from surgery.recipe.reading import SHIPPED, shipped_names
    from surgery.errors import InputError, suggest
    from surgery.files import write_atomically

    if name not in shipped_names():
        hint = suggest(name, shipped_names()) or f"shipped are {', '.join(shipped_names())}"
        raise InputError(f"unknown shipped recipe {name!r}", hint=hint)
    path = Path(f"{name}.toml") if destination is None else destination
    path = path / f"{name}.toml" if path.is_dir() else path
    if path.suffix != ".toml":
        raise InputError(f"{path}: expected a TOML file, or an existing folder", hint=f"as in {path}.toml")
    # Included recipes keep the names by which they are included; each is copied once.
    others = dict.fromkeys([*_included(SHIPPED / f"{name}.toml"), SCHEMA])
    if path.name in others:
        raise InputError(f"{path}: {name} includes a recipe of this name", hint="give the copy another name")
    files = {path: (SHIPPED / f"{name}.toml").read_bytes()}
    files |= {path.parent / other: (SHIPPED / other).read_bytes() for other in others}
    # All conflicts are found before the first file is written.
    same = {file for file, content in files.items() if file.is_file() and file.read_bytes() == content}
    existing = [str(file) for file in files if file.exists() and file not in same]
    if existing and not force:
        raise InputError(f"already exists: {', '.join(existing)}", hint="give another name, or --force to overwrite")
    for file, content in files.items():
        write_atomically(file, content)
    out.data({"written": [str(path) for path in files]})
    for path in () if as_json else files:
        typer.echo(path)


@recipes.command("check", cls=Command)
def check(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...",
            help="TOML files, or names of shipped recipes.",
            autocompletion=completion.recipes,
            show_default=False,
        ),
    ],
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> int:
    """Check recipes without running them.

    Prints all mistakes with their positions (exit code 2), and the stages of each recipe without mistakes. Images are
    not loaded; surgery plan loads them and compares the recipe with them.

    \b
    surgery recipes check mine.toml
    surgery recipes check mine.toml other.toml --json
    """
    out = Output(as_json=as_json, debug=debug)
    from surgery_cli.running import parse_overrides

    with out.working("loading torch"):
        from surgery.recipe import load_recipe
    from surgery.errors import InputError

    pairs = parse_overrides(overrides or ())
    found: dict[str, Recipe | InputError] = {}
    for file in files:
        try:
            found[file] = load_recipe(file, pairs)
        except InputError as error:
            found[file] = error
    out.data({"recipes": [_checked(file, result) for file, result in found.items()]})
    if not as_json:
        from surgery_cli.show.recipe import sound_view

        for file, result in found.items():  # recipes without mistakes on stdout, mistakes on stderr
            if isinstance(result, InputError):
                report(problem(result), as_json=False)
            else:
                out.show(*sound_view(file, result))
    return ExitCode.BAD_INPUT if any(isinstance(result, InputError) for result in found.values()) else ExitCode.DONE


@recipes.command("schema", cls=Command)
def schema(as_json: options.AsJson = False, debug: options.Debug = False) -> None:
    """Print the JSON Schema of recipes, for editors.

    \b
    surgery recipes schema
    """
    out = Output(as_json=True, debug=debug)
    with out.working("loading torch"):
        from surgery.recipe import schema as schema_of
    out.data(schema_of())


def _included(path: Path) -> list[str]:
    """The files that a shipped recipe includes, directly or not; all are in its folder."""
    from surgery.toml import read_toml

    found: list[str] = []
    for item in read_toml(path).data.get("include", ()):
        file = item if item.endswith(".toml") else f"{item}.toml"
        found += [file, *_included(path.parent / file)]
    return found


def _checked(file: str, result: Recipe | InputError) -> dict[str, Any]:
    """The result of one recipe for JSON output."""
    from surgery.errors import InputError

    if not isinstance(result, InputError):
        return {"recipe": file, "sound": True, "stages": [stage.name for stage in result.stages], "problems": []}
    found = problem(result)
    alone = {"file": file, "line": None, "column": None, "flag": None, "message": found.message, "hint": found.hint}
    return {"recipe": file, "sound": False, "stages": [], "problems": found.problems or [alone]}

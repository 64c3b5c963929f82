"""The application: every command by its name, and the entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from surgery_cli.application import Application, Command
from surgery_cli.commands.apply import apply
from surgery_cli.commands.attack import attack
from surgery_cli.commands.certify import certify
from surgery_cli.commands.cluster import cluster
from surgery_cli.commands.diff import diff
from surgery_cli.commands.doctor import doctor, version
from surgery_cli.commands.extract import extract
from surgery_cli.commands.inspect import inspect
from surgery_cli.commands.linearize import linearize
from surgery_cli.commands.plan import plan
from surgery_cli.commands.recipes import recipes
from surgery_cli.commands.results import results
from surgery_cli.commands.rules import rules
from surgery_cli.commands.run import run
from surgery_cli.commands.train import train
from surgery_cli.expansion import expanded
from surgery_cli.options import Debug

COMMANDS: dict[str, Callable[..., Any]] = {
    "inspect": inspect,
    "linearize": linearize,
    "apply": apply,
    "certify": certify,
    "diff": diff,
    "rules": rules,
    "extract": extract,
    "cluster": cluster,
    "attack": attack,
    "plan": plan,
    "run": run,
    "train": train,
    "doctor": doctor,
}
"""Every command that has no commands of its own."""

GROUPS = {
    "Rewrite a model": ("inspect", "linearize", "apply", "certify", "diff", "rules"),
    "Measure it": ("extract", "cluster", "attack"),
    "Run a recipe": ("recipes", "plan", "run", "train", "results"),
    "Installation": ("doctor",),
}
"""The commands under the headings of the help, in the order of use."""

EXIT_CODES = """\
\b
Exit codes: 0 done, 1 failed, 2 bad input, 3 partly done, 130 interrupted.
Results go to stdout, messages to stderr. Every command has --json, --debug and --help.

\b
  surgery linearize --arch torchvision:resnet18
  surgery linearize model.pt --arch resnet18 -o linear.safetensors
  surgery inspect linear.safetensors
"""


class Grouped(Application):
    """The group of all commands, whose help lists them in the order of use."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading."""
        for heading, names in GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, command.get_short_help_str(limit=80)) for name, command in commands if command is not None]
                )


app = typer.Typer(
    name="surgery",
    cls=Grouped,
    # Without rich: its import alone takes as long as --help is allowed to take.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"surgery {version()}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def surgery(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Rewrite a trained network by declarative rules and certify the result."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for name, function in COMMANDS.items():
    app.command(name, cls=Command)(expanded(function))
app.add_typer(recipes)
app.add_typer(results)


def main() -> None:
    """The entry point of `surgery` and of `python -m surgery_cli`."""
    app(prog_name="surgery")

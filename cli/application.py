"""The group and command classes of the application: errors in one place, help sorted by topic."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NoReturn

from typer.core import TyperCommand, TyperGroup

from surgery.errors import SurgeryError
from surgery_cli.console import only_results
from surgery_cli.dialect import in_options
from surgery_cli.errors import guarded
from surgery_cli.options import DATA, MODEL, OUTPUT, RECIPE, RESULT


class Command(TyperCommand):
    """A command whose help lists each option under its heading, and whose errors speak of its options."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of the library names options where it named arguments."""
        try:
            with only_results() if ctx.params.get("as_json") else nullcontext():
                return super().invoke(ctx)
        except SurgeryError as error:
            options = {item.name: max(item.opts, key=len) for item in self.params if item.param_type_name == "option"}
            error.message = in_options(error.message, options, is_hint=False)
            error.hint = None if error.hint is None else in_options(error.hint, options, is_hint=True)
            raise

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, and its examples, which the docstring marks as lines to be kept."""
        about, _, examples = inspect.cleandoc(self.help or "").partition("\b\n")
        with formatter.indentation():
            formatter.write_paragraph()
            formatter.write_text(about)
        if examples:
            with formatter.section("Examples"):
                formatter.write_text(f"\b\n{examples}")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading: first what is read, last how to print."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                # The parser keeps the heading of an option under the name that it has for help by rich.
                named = getattr(parameter, "rich_help_panel", None)
                other = OUTPUT if parameter.name == "help" else _KINDS[parameter.param_type_name]
                sections.setdefault(named or other, []).append(record)
        for heading in sorted(
            sections, key=lambda heading: _ORDER.index(heading) if heading in _ORDER else len(_ORDER)
        ):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


class Application(TyperGroup):
    """The group of all commands. Every call, also from tests, goes through `main`, which reports all errors."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command that `args` name and exit with its code."""
        _never_fail_to_print()
        arguments = list(sys.argv[1:] if args is None else args)
        # The parser reads these options too, but they also apply to errors of the parser itself.
        words = arguments[: arguments.index("--")] if "--" in arguments else arguments
        # standalone_mode=False: typer would print its own messages and exit, which hides errors from --json.
        run = partial(super().main, arguments, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(int(guarded(run, as_json="--json" in words, debug="--debug" in words)))


_ORDER = ("Arguments", RECIPE, DATA, MODEL, "Attack", RESULT, "Options", OUTPUT)
_KINDS = {"argument": "Arguments", "option": "Options"}
"""The headings of parameters that name none."""


def _never_fail_to_print() -> None:
    """Let a stream print ? for a character that it cannot encode, instead of raising UnicodeEncodeError in a table."""
    for stream in (sys.stdout, sys.stderr):
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
        if encoding != "utf8" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

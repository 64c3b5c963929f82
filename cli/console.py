"""What commands print: results on stdout, messages on stderr, or one JSON object with --json."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LONG = 2_000
"""Characters of the longest line of a message."""

WIDE = 10_000
"""Columns of an output that is not a terminal: nothing is wrapped or truncated."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The two streams of a command, and the options that affect them.

    `as_json`: stdout carries one JSON object and nothing else. `debug`: stderr reports how long each step took.
    """

    as_json: bool
    debug: bool

    def show(self, *items: RenderableType) -> None:
        """Print data for people on stdout; nothing in JSON mode."""
        if self.as_json:
            return
        target = console(sys.stdout)
        for item in items:
            if target.is_terminal:
                target.print(item)
            else:  # rich pads lines with spaces to the full width, here 10,000 columns; `plain` strips them
                sys.stdout.write(plain(item))

    def data(self, data: Mapping[str, Any]) -> None:
        """Print data for programs on stdout; nothing unless in JSON mode."""
        if self.as_json:
            write_json(data)

    def note(self, text: str) -> None:
        """Print a remark on stderr."""
        _say(typer.style(message_text(text), dim=True))

    def warn(self, text: str) -> None:
        """Print a warning on stderr."""
        _say(typer.style("warning:", fg="yellow", bold=True) + f" {message_text(text)}")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show on stderr that `what` is being done while the block runs; on a terminal only."""
        start = time.perf_counter()
        if sys.stderr.isatty() and not self.debug:
            with console(sys.stderr).status(f"{what} ..."):
                yield
        else:
            yield
        if self.debug:
            self.note(f"{what}: {time.perf_counter() - start:.2f} s")

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Yield a function to call with the steps done and their number; a bar with time left on a terminal."""
        if not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.progress import Progress

        with Progress(console=console(sys.stderr), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def console(stream: TextIO) -> Console:
    """A rich console that prints texts literally, and in color only on terminals."""
    # Without a terminal rich takes 80 columns, and would fold long names that grep and other programs search for.
    width = None if stream.isatty() else WIDE
    return _literal_console(file=stream, width=width)


def plain(item: RenderableType) -> str:
    """The text of `item` for a file."""
    target = _literal_console(width=WIDE, color_system=None, force_terminal=False)
    with target.capture() as captured:
        target.print(item)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _literal_console(**settings: Any) -> Console:
    from rich.console import Console
    from rich.segment import Segment

    class Literal(Console):
        """Names that come from files may hold escape sequences, which a terminal would obey."""

        def render(self, *given: Any, **named: Any) -> Iterator[Segment]:
            for segment in super().render(*given, **named):
                yield segment if segment.control else segment._replace(text=escaped(segment.text))

    return Literal(**settings, markup=False, highlight=False, emoji=False)


_OBEYED = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Characters that a terminal obeys (controls except tab and line feed, directions of text), and bytes that are none."""


def escaped(text: str) -> str:
    """`text` in which characters that a terminal obeys are written as escapes."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def message_text(text: str) -> str:
    """`text` as a message: escaped, and with long lines shortened in their middle, for names can have any length."""
    lines = (
        line if len(line) <= LONG else f"{line[: LONG // 2]} ... {line[-LONG // 4 :]} ({len(line):,} characters)"
        for line in text.split("\n")
    )
    return escaped("\n".join(lines))


_results: ContextVar[TextIO | None] = ContextVar("results", default=None)


@contextmanager
def only_results() -> Iterator[None]:
    """Keep stdout for `write_result` while the block runs: what code of a user prints there goes to stderr."""
    token = _results.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results.reset(token)


def write_result(text: str) -> None:
    """Print `text` on stdout, also inside `only_results`."""
    typer.echo(text, file=_results.get() or sys.stdout, nl=False)


def write_json(data: Mapping[str, Any]) -> None:
    """Print `data` as JSON on stdout."""
    write_result(json_text(data) + "\n")


def json_text(data: Any) -> str:
    """`data` as JSON, which has no infinity and no NaN: they become strings."""
    text = json.dumps(_jsonable(data), indent=1, allow_nan=False, ensure_ascii=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _say(text: str) -> None:
    sys.stdout.flush()  # keeps the order of messages and results if both go into one file
    typer.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)

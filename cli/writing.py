"""Views that go to a file or to stdout: the choice of the format, and atomic writing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from surgery.errors import InputError
from surgery.files import check_writable, write_atomically
from surgery_cli.console import Output, json_text, plain

EXTENSIONS = {".txt": "text", ".json": "json", ".svg": "svg", ".dot": "dot", ".graphml": "graphml"}
"""The format that a file's extension means."""


def chosen_format(wanted: str | None, output: Path | None, *, default: str, known: tuple[str, ...]) -> str:
    """The format asked for, or that the output's extension names, or the default.

    Raises InputError, before any work is done, for an unknown extension or a missing folder.
    """
    if output is not None:
        check_writable(output)
    if wanted is not None:
        return wanted
    if output is None or output.suffix == ".txt":
        return default
    found = EXTENSIONS.get(output.suffix)
    if found not in known:
        extensions = [extension for extension, name in EXTENSIONS.items() if name in (*known, "text")]
        raise InputError(
            f"{output}: unknown format {output.suffix!r}", hint=f"known are {', '.join(extensions)}; or give --format"
        )
    return found


def deliver(
    format: str,
    output: Path | None,
    *,
    texts: Mapping[str, Callable[[], str]],
    views: Mapping[str, Callable[[], Any]],
    data: Callable[[], Mapping[str, Any]],
    out: Output,
) -> None:
    """Print or write one format: `texts` and `views` make the formats for files and for people, `data` JSON."""
    if output is not None:
        text = json_text(data()) + "\n" if format == "json" else _text(format, texts, views)
        write_atomically(output, text.encode())
        out.data({"written": str(output), "format": format})
        out.note(f"written: {output}")
    elif out.as_json:
        out.data(data() if format not in texts else {"format": format, "text": texts[format]()})
    elif format == "json":
        typer.echo(json_text(data()))
    elif format in texts:
        sys.stdout.write(_text(format, texts, views))
    else:
        out.show(*views[format]())


def _text(format: str, texts: Mapping[str, Callable[[], str]], views: Mapping[str, Callable[[], Any]]) -> str:
    if format in texts:
        text = texts[format]()
        return text if text.endswith("\n") else text + "\n"
    return "".join(plain(item) for item in views[format]())

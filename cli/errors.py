"""From exceptions to one clear message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import typer

from surgery.errors import CertificateError, InputError, Position, RewriteError, SurgeryError
from surgery.plugins import users_frame
from surgery_cli.console import message_text, write_json


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    PARTLY_DONE = 3
    INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error as the user sees it."""

    type: str
    message: str
    hint: str | None
    code: ExitCode
    problems: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The value of the key `error` in JSON output, with `problems` for an error that consists of several."""
        several = {"problems": list(self.problems)} if self.problems else {}
        return {"type": self.type, "message": self.message, "hint": self.hint, **several}


class StoppedError(SurgeryError):
    """The user stopped a command that can be resumed."""


_TRACEBACK = "--debug prints the traceback"
_INTERRUPTED = Problem(type="Interrupted", message="interrupted", hint=None, code=ExitCode.INTERRUPTED)


def problem(error: BaseException) -> Problem:
    """The error as the user sees it."""
    if isinstance(error, SurgeryError):
        name = "Interrupted" if isinstance(error, StoppedError) else type(error).__name__
        # The classes of the user's mistakes; a broken certificate is a result, although it is a RewriteError.
        given = isinstance(error, (InputError, RewriteError)) and not isinstance(error, CertificateError)
        code = ExitCode.BAD_INPUT if given else ExitCode.FAILED
        return Problem(
            type=name,
            message=error.message,
            hint=error.hint or (_TRACEBACK if error.__cause__ and users_frame(error.__cause__) else None),
            code=ExitCode.INTERRUPTED if isinstance(error, StoppedError) else code,
            # Only the error of a recipe has parts. Its class is not imported here: that would import torch.
            problems=tuple(part_dict(part) for part in getattr(error, "problems", ())),
        )
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path if context is not None else 'surgery'} --help"
        return Problem(type="UsageError", message=error.format_message(), hint=hint, code=ExitCode.BAD_INPUT)
    kind = type(error).__name__
    # torch's own allocator raises a RuntimeError on the CPU.
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in str(error):
        message = f"out of memory: {str(error).partition(chr(10))[0] or 'an allocation failed'}"
        hint = "smaller images, batches or networks take less"
        return Problem(type=kind, message=message, hint=hint, code=ExitCode.FAILED)
    frame = users_frame(error)
    if frame is not None:
        message = f"{frame.filename}:{frame.lineno}: your code raised {kind}: {error}"
        return Problem(type=kind, message=message, hint=_TRACEBACK, code=ExitCode.BAD_INPUT)
    if isinstance(error, OSError):
        return Problem(type=kind, message=str(error), hint=None, code=ExitCode.FAILED)
    hint = "rerun the command with --debug for the traceback, and please report it"
    return Problem(type=kind, message=f"internal error: {kind}: {error}", hint=hint, code=ExitCode.FAILED)


def part_dict(part: Any) -> dict[str, Any]:
    """One problem of a recipe: its place in a file or its flag, the message, and a hint."""
    place = part.place
    if isinstance(place, Position):
        where = {"file": place.path, "line": place.line, "column": place.column, "flag": None}
    else:
        where = {"file": None, "line": None, "column": None, "flag": f"--set {place.text}"}
    return {**where, "message": part.message, "hint": part.hint}


def guarded(run: Callable[[], int | None], *, as_json: bool, debug: bool) -> int:
    """Call `run`, report any error, and return the exit code."""
    try:
        code = run() or ExitCode.DONE
    except Exception as error:  # the outermost handler: a user sees a message, not a traceback
        if debug:
            traceback.print_exception(error)
        found = problem(error)
        report(found, as_json=as_json)
        return found.code
    if code == ExitCode.INTERRUPTED:
        report(_INTERRUPTED, as_json=as_json)
    return code


def report(found: Problem, *, as_json: bool) -> None:
    """Print `found` on stderr, or as one JSON object on stdout."""
    if as_json:
        write_json({"error": found.as_dict()})
        return
    label = typer.style("error: ", fg="red", bold=True) if found.code != ExitCode.INTERRUPTED else ""
    hint = "\n" + typer.style("  hint: ", bold=True) + message_text(found.hint) if found.hint else ""
    sys.stdout.flush()  # keeps the order of output and error if both go into one file
    several = f"{len(found.problems)} problems\n" if len(found.problems) > 1 else ""
    text = label + several + message_text(found.message) + hint
    typer.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)

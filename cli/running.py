"""Parts that `surgery run`, `plan` and `train` share: from options to a recipe, and a run with its progress."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery_cli.console import Output
from surgery_cli.errors import StoppedError
from surgery_cli.progress import watching
from surgery_cli.stopping import stoppable

if TYPE_CHECKING:
    from surgery.recipe import Recipe
    from surgery.run import Run
    from surgery.stages import StageProgress
    from surgery_cli.show.board import Board


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options that select a recipe, its stages and its run folder, as they were typed."""

    recipe: str
    overrides: Sequence[str]
    stages: tuple[str, ...]
    output: Path | None
    device: str | None
    download: bool
    quiet: bool

    def words(self) -> list[str]:
        """The options as words of a command line, for the command that resumes the run."""
        output = [] if self.output is None else ["-o", str(self.output)]
        device = [] if self.device is None else ["--device", self.device]
        sets = [word for text in self.overrides for word in ("--set", text)]
        stages = [word for name in self.stages for word in ("--stage", name)]
        return [*output, *sets, *stages, *device, *(["--download"] if self.download else [])]

    def folder(self, recipe: Recipe) -> Path:
        """The run folder."""
        return self.output if self.output is not None else Path("results") / recipe.name


def open_recipe(options: RunOptions, out: Output) -> Recipe:
    """The recipe that `options` name, with their --set values; raises RecipeError or InputError."""
    overrides = parse_overrides(options.overrides)
    with out.working("loading torch"):
        from surgery.recipe import load_recipe

    with out.working("reading the recipe"):
        return load_recipe(options.recipe, overrides)


def parse_overrides(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values of --set; raises InputError."""
    result = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {text}: expected KEY=VALUE", hint="as in --set stage.at.epochs=2")
        result.append((key.strip(), value.strip()))
    return result


def carry_out(
    options: RunOptions, recipe: Recipe, stages: tuple[str, ...] | None, *, command: Sequence[str], out: Output
) -> Run | None:
    """Run a recipe and show its progress; `command`: the words of the command that resumes it.

    Under a launcher such as `torchrun`, returns None in every process but the first.
    Raises StoppedError if the user stops the run, and what `run_recipe` raises.
    """
    from surgery.run import LostProcessError, run_recipe, wanted_stages
    from surgery_cli.images import chosen_device
    from surgery_cli.show.board import board_of

    # torchrun starts this command once for each GPU; only the first of these processes prints and writes files.
    follows = os.environ.get("RANK", "0") != "0"
    quiet = options.quiet or follows
    device, folder = chosen_device(options.device), options.folder(recipe)
    with stoppable(_say_that_it_stops) as stop:
        board = board_of(wanted_stages(recipe, stages), title=recipe.name, folder=str(folder), stop=stop)
        try:
            for extension in () if quiet else recipe.extensions():
                out.note(f"imports {extension.reference} ({extension.path})")
            # `_ended` is the inner one: `watching` draws the board a last time, and that picture stays on the screen.
            # What code of a user prints while it runs is no result.
            with (
                watching(board, out, quiet=quiet) as watcher,
                warnings.catch_warnings(),
                redirect_stdout(sys.stderr),
                _ended(board),
            ):
                # Warnings are printed in the form of the commands, and at once: a run may take days.
                warnings.showwarning = lambda message, *rest, **named: watcher.warn(str(message))

                def listen(progress: StageProgress) -> None:
                    watcher.listener(progress)
                    stop.check()  # between two batches, where training can still save its state

                found = run_recipe(
                    recipe, folder, stages=stages, device=device, download=options.download, listener=listen
                )
        except KeyboardInterrupt:
            raise StoppedError(_where(board), hint=f"to resume: {shlex.join(['surgery', *command])}") from None
        except LostProcessError:
            if not follows:
                raise
            return None  # the first process has ended, and reports why
    return None if follows else found


@contextmanager
def _ended(board: Board) -> Iterator[None]:
    """Record on the board how the block ended, before the board is drawn for the last time."""
    try:
        yield
    except KeyboardInterrupt:
        board.end("stopped")
        raise
    except BaseException:
        board.end("failed")
        raise
    board.end("done")


def _where(board: Board) -> str:
    """The point at which the run stopped, in words."""
    row, total = board.current, len(board.rows)
    finished = f"{board.finished} of {total} stages are finished"
    if row is None:
        return f"stopped between two stages; {finished}"
    words = f" ({row.text})" if row.text else ""
    return f"stopped in stage {row.name}{words}; {finished}, and the progress of this one is kept"


def _say_that_it_stops() -> None:
    """Without a terminal, print a line, without taking a lock; on a terminal the list of stages shows it."""
    if not sys.stderr.isatty():
        # Python's streams take locks, which the interrupted program may hold: the handler would wait for itself.
        os.write(2, b"stopping as soon as no work is lost; a second signal stops at once\n")

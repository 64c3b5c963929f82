"""What `surgery run`, `plan` and `train` share: from options to a recipe, and through a run to its end."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery_cli.board import Board, board_of
from surgery_cli.console import Output
from surgery_cli.errors import StoppedError
from surgery_cli.stopping import stoppable
from surgery_cli.watching import Watcher, watching

if TYPE_CHECKING:
    from surgery.recipe import Recipe
    from surgery.recipe.running import Run, StageProgress


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options that say what is run and where, as they were typed."""

    recipe: str
    overrides: Sequence[str]
    stages: tuple[str, ...]
    output: Path | None
    device: str | None
    download: bool
    quiet: bool

    def words(self) -> list[str]:
        """The options once more, for the command that goes on after a stop."""
        output = [] if self.output is None else ["-o", str(self.output)]
        device = [] if self.device is None else ["--device", self.device]
        sets = [word for text in self.overrides for word in ("--set", text)]
        stages = [word for name in self.stages for word in ("--stage", name)]
        return [*output, *sets, *stages, *device, *(["--download"] if self.download else [])]

    def folder(self, recipe: Recipe) -> Path:
        """The run folder."""
        return self.output if self.output is not None else Path("results") / recipe.name


def open_recipe(options: RunOptions, out: Output) -> Recipe:
    """The recipe that `options` name, with what they set; raises RecipeError or InputError."""
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
    """Run a recipe and show how it goes on; `command`: what goes on after a stop.

    Returns None in a process that only trains with the one that speaks for all, under a launcher as `torchrun`.
    Raises StoppedError where the user stops it, and what `run_recipe` raises.
    """
    from surgery.recipe.running import LostProcessError, wanted_stages
    from surgery_cli.images import chosen_device

    follows = os.environ.get("RANK", "0") != "0"
    device, folder = chosen_device(options.device), options.folder(recipe)
    with stoppable(_say_that_it_stops) as stop:
        wanted = wanted_stages(recipe, stages)
        board = board_of(wanted, title=recipe.name, folder=str(folder), stop=stop)
        try:
            with watching(board, out, quiet=options.quiet or follows) as watcher, _warnings_to(watcher.warn):
                found = _run(options, recipe, stages, device, board, watcher)
        except KeyboardInterrupt:
            raise StoppedError(_where(board), hint=f"to go on: {shlex.join(['surgery', *command])}") from None
        except LostProcessError:
            if not follows:
                raise
            return None  # the first process has ended, and says why
    return None if follows else found


def _run(
    options: RunOptions, recipe: Recipe, stages: tuple[str, ...] | None, device: str, board: Board, watcher: Watcher
) -> Run:
    from surgery.recipe.running import run_recipe

    def hear(progress: StageProgress) -> None:
        watcher.report(progress)
        board.stop.check()

    with _ended(board):
        return run_recipe(
            recipe, options.folder(recipe), stages=stages, device=device, download=options.download, report=hear
        )


@contextmanager
def _ended(board: Board) -> Iterator[None]:
    """Tell the board how the block ended, before the last picture of it is drawn."""
    try:
        yield
    except KeyboardInterrupt:
        board.end("stopped")
        raise
    except BaseException:
        board.end("failed")
        raise
    board.end("done")


@contextmanager
def _warnings_to(say: Callable[[str], None]) -> Iterator[None]:
    """Say warnings as the commands say them, and at once: a run may take days."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *rest, **named: say(str(message))
        yield


def _where(board: Board) -> str:
    row, total = board.current, len(board.rows)
    finished = f"{board.finished} of {total} stages are finished"
    if row is None:
        return f"stopped between two stages; {finished}"
    words = f" ({row.text})" if row.text else ""
    return f"stopped in stage {row.name}{words}; {finished}, and what this one has so far is kept"


def _say_that_it_stops() -> None:
    """On a terminal the list of stages says so; elsewhere a line that needs no lock."""
    if not sys.stderr.isatty():
        os.write(2, b"stopping as soon as nothing is lost; once more stops at once\n")

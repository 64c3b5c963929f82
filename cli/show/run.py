"""The findings of a run, as text and as plain values."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.recipe import Recipe
from surgery.run import Run
from surgery.stages import KINDS, Cell, Summary
from surgery.store import Group
from surgery_cli.console import WIDE, console
from surgery_cli.show.pieces import count, heading, table
from surgery_cli.show.results import size

TONES = {
    "plain": "default",
    "strong": "bold",
    "faint": "dim",
    "good": "green",
    "bad": "red",
    "warning": "yellow",
}
"""The style of each tone of a cell."""

GROUP_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
"""Colors of superclasses, used in turn."""


def run_dict(recipe: Recipe, run: Run) -> dict[str, Any]:
    """A run as plain values."""
    # A section without findings is an empty list: programs find all keys, in the order in which sections are shown.
    sections = {section.key: section for kind in KINDS.values() for section in kind.sections}
    keys = sorted(sections, key=lambda key: sections[key].place)
    return {
        "recipe": recipe.name,
        "folder": str(run.folder.path),
        "store": str(run.folder.store),
        "stages": {"ran": list(run.ran), "cached": list(run.cached)},
        "training": [_training_dict(run, group) for group in _trainings(recipe, run)],
        "verdict": {**dict.fromkeys(keys, ()), **run.summary.as_json()},
        "figures": figures_of(recipe, run),
    }


def summary_view(summary: Summary, *, verbose: bool) -> Iterator[RenderableType]:
    """The findings of a run, section by section."""
    for section in summary.sections():
        grid = section.grid(summary.of(section))
        rows = grid.rows if verbose or grid.shown is None else grid.rows[: grid.shown]
        yield heading(section.title, grid.note)
        if all(len(row) == 1 for row in grid.rows):  # sentences, which may be longer than a line
            yield from (Padding(_cell(cell), (0, 0, 0, 2)) for (cell,) in rows)
        else:
            cells = _fitting([tuple(_cell(cell) for cell in row) for row in rows])
            yield table(cells, head=grid.head, right=grid.right)
        if len(rows) < len(grid.rows):
            yield Padding(Text(f"{len(grid.rows) - len(rows):,} more (--verbose)", style="dim"), (0, 0, 0, 2))


def training_view(recipe: Recipe, run: Run) -> Iterator[RenderableType]:
    """A row for each network: its best epoch, and its accuracy after that epoch on the images that selected it."""
    rows = [_training_dict(run, group) for group in _trainings(recipe, run)]
    yield heading("Trained", "accuracy after the best epoch, on the images that selected it")
    yield table(
        [
            (
                Text(row["stage"], style="bold"),
                f"{row['best_epoch']} of {row['epochs']}",
                _share(row["natural"]),
                _share(row["robust"]),
                str(row["checkpoint"]),
            )
            for row in rows
        ],
        head=("stage", "best epoch", "natural", "robust", "network"),
        right=(1, 2, 3),
    )


def whereabouts(recipe: Recipe, run: Run) -> Iterator[RenderableType]:
    """The paths of the store and the figures, and commands that show more."""
    figures = figures_of(recipe, run)
    rows = [("store", f"{run.folder.store}  ({size(run.folder.store.stat().st_size)})")]
    if figures:
        rows.append(("figures", f"{run.folder.figures}  ({count(len(figures), 'file')})"))
    yield heading("Written")
    yield table([(Text(name, style="dim"), text) for name, text in rows])
    yield heading("More")
    yield table([(Text(command, style="cyan"), Text(what, style="dim")) for command, what in _commands(recipe, run)])


def figures_of(recipe: Recipe, run: Run) -> list[str]:
    """The figures that the reports of a run have drawn."""
    reports = [name for name in (*run.ran, *run.cached) if recipe.stage(name).kind == "report"]
    return [str(run.folder.path / file) for name in reports for file in run.folder.figures_of(name)]


def _cell(cell: Cell) -> Text:
    text = Text(cell.text, style=TONES[cell.tone])
    for number, part in enumerate(cell.parts):
        text.append(" | " if number else "", style="dim")
        text.append(part, style=GROUP_STYLES[number % len(GROUP_STYLES)])
    if cell.detail:
        text.append(f" {cell.detail}" if cell.text else cell.detail, style="not bold dim")
    return text


def _fitting(rows: list[tuple[Text, ...]]) -> list[tuple[Text, ...]]:
    """With the details of the cells below their texts if the rows are wider than the terminal."""
    width = 2 + sum(2 + max(cell.cell_len for cell in column) for column in zip(*rows, strict=True))
    target = console(sys.stdout)
    if width <= (target.width if target.is_terminal else WIDE):
        return rows
    # The first column names the row; a name stays in one line.
    return [(row[0], *map(_in_two_lines, row[1:])) for row in rows]


def _in_two_lines(cell: Text) -> Text:
    """The first word of a cell above the others; groups of classes, which `|` divides, stay as they are."""
    words = cell.split(" ", allow_blank=True)
    if " | " in cell.plain or len(words) < 2:
        return cell
    return Text("\n").join([words[0], Text(" ").join(words[1:])])


def _trainings(recipe: Recipe, run: Run) -> Iterator[Group]:
    for stage in recipe.stages:
        if stage.kind == "train" and stage.name in (*run.ran, *run.cached):
            yield run.folder.read(stage.name)


def _training_dict(run: Run, group: Group) -> dict[str, Any]:
    best = int(group.attributes["best_epoch"])
    values: Mapping[str, float] = {name: float(group[name][best - 1]) for name in ("natural", "robust")}
    return {
        "stage": group.name,
        "epochs": group.sizes["epoch"],
        "best_epoch": best,
        # JSON has no NaN, which stands for an accuracy that was not measured.
        **{name: None if value != value else value for name, value in values.items()},
        "selected_on": str(group.attributes["selected_on"]),
        "checkpoint": str(run.folder.checkpoints(group.name) / "best.safetensors"),
    }


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _commands(recipe: Recipe, run: Run) -> Iterator[tuple[str, str]]:
    """Commands that show results: for each of three kinds the last stage, which is usually the one of interest."""
    folder, names = run.folder.path, [stage.name for stage in recipe.stages if stage.name in (*run.ran, *run.cached)]
    yield _command("results", "ls", folder), "every group of the store"
    shown = {"extract": "C, in colors", "confusion": "M, in colors", "attack": "accuracies, class by class"}
    for kind, what in shown.items():
        of_kind = [stage.name for stage in recipe.stages if stage.kind == kind and stage.name in names]
        if of_kind:
            yield _command("results", "show", folder, of_kind[-1]), what


def _command(*words: str | Path) -> str:
    return shlex.join(["surgery", *map(str, words)])

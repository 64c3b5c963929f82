"""What a run found, for people and as plain values."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.recipe import Recipe
from surgery.recipe.running import Run, Verdict
from surgery.store import Group
from surgery_cli.console import WIDE, console
from surgery_cli.show.pieces import count, heading, table
from surgery_cli.show.results import size

PAIRS = 12
"""Pairs of networks that are compared line by line unless all are asked for."""

GROUP_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
"""Colours of superclasses, which begin again where there are more of them."""

_Item = TypeVar("_Item")


def run_dict(recipe: Recipe, run: Run) -> dict[str, Any]:
    """A run as plain values."""
    return {
        "recipe": recipe.name,
        "folder": str(run.folder.path),
        "store": str(run.folder.store),
        "stages": {"ran": list(run.ran), "cached": list(run.cached)},
        "training": [_training_dict(run, group) for group in _trainings(recipe, run)],
        "verdict": run.verdict.as_json(),
        "figures": figures_of(recipe, run),
    }


def verdict_view(found: Verdict, *, verbose: bool) -> Iterator[RenderableType]:
    """Accuracies, what differs between networks, what C and M show, the superclasses by name, and what to look into."""
    yield from _accuracies(found)
    yield from _differences(found, verbose=verbose)
    yield from _contrasts(found)
    yield from _superclasses(found)
    yield from _remarks("Noticed in training", found.notices, style="yellow")
    yield from _remarks("Checks that failed", found.failed_checks, style="red")


def training_view(recipe: Recipe, run: Run) -> Iterator[RenderableType]:
    """A row for each network: its best epoch, and how accurate it was then on the images that chose it."""
    rows = [_training_dict(run, group) for group in _trainings(recipe, run)]
    yield heading("Trained", "accuracy after the best epoch, on the images that it was chosen by")
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
    """Where the store and the figures are, and how to look further."""
    figures = figures_of(recipe, run)
    rows = [("store", f"{run.folder.store}  ({size(run.folder.store.stat().st_size)})")]
    if figures:
        rows.append(("figures", f"{run.folder.figures}  ({count(len(figures), 'file')})"))
    yield heading("Written")
    yield table([(Text(name, style="dim"), text) for name, text in rows])
    yield heading("Look further")
    yield table([(Text(command, style="cyan"), Text(what, style="dim")) for command, what in _commands(recipe, run)])


def figures_of(recipe: Recipe, run: Run) -> list[str]:
    """The figures that the reports of a run have drawn."""
    reports = [name for name in (*run.ran, *run.cached) if recipe.stage(name).kind == "report"]
    return [str(run.folder.path / file) for name in reports for file in run.folder.figures_of(name)]


def _accuracies(found: Verdict) -> Iterator[RenderableType]:
    """A row for each network and attack stage, a column for each attack."""
    attacks = list(dict.fromkeys(row.attack for row in found.accuracies))
    if not attacks:
        return
    rows = []
    for stage, own in itertools.groupby(found.accuracies, key=lambda row: row.stage):
        cells = list(own)
        by_attack = {row.attack: _with_interval(row.accuracy, row.interval) for row in cells}
        name = Text(cells[0].model, style="bold")
        rows.append((name, Text(stage, style="dim"), *(by_attack.get(attack, Text("")) for attack in attacks)))
    if len({str(row[0]) for row in rows}) == len(rows):  # the stage tells networks apart only where their names do not
        rows = [(name, Text(""), *cells) for name, _, *cells in rows]
    images = sorted({row.images for row in found.accuracies})
    shown = " and ".join(f"{number:,}" for number in images)
    yield heading("Accuracy", f"on {shown} images, with 95 % intervals")
    yield table(_fitting(rows), head=("network", "stage", *attacks))


def _with_interval(accuracy: float, interval: tuple[float, float]) -> Text:
    low, high = interval
    return Text(f"{accuracy:.1%}", style="bold").append(f" {100 * low:.1f} to {100 * high:.1f}", style="not bold dim")


def _fitting(rows: list[tuple[Text, ...]]) -> list[tuple[Text, ...]]:
    """With intervals under the accuracies where they do not fit beside them."""
    width = 2 + sum(2 + max(cell.cell_len for cell in column) for column in zip(*rows, strict=True))
    return rows if width <= _width() else [(*row[:2], *map(_in_two_lines, row[2:])) for row in rows]


def _in_two_lines(cell: Text) -> Text:
    words = cell.split(" ", allow_blank=True)
    return Text("\n").join([words[0], Text(" ").join(words[1:])]) if len(words) > 1 else cell


def _differences(found: Verdict, *, verbose: bool) -> Iterator[RenderableType]:
    attacks = list(dict.fromkeys(row.attack for row in found.differences))
    if not attacks:
        return
    rows = []
    for (first, second), own in itertools.groupby(found.differences, key=lambda row: (row.first, row.second)):
        cells = {row.attack: _with_chance(row.difference, row.p_value) for row in own}
        name = Text(second, style="bold").append(f" over {first}", style="not bold")
        rows.append((name, *(cells.get(attack, Text("")) for attack in attacks)))
    yield heading("Differences", "in points, on the same images; p of McNemar's test")
    yield from _first(rows, PAIRS, head=("", *attacks), verbose=verbose)


def _with_chance(difference: float, p_value: float) -> Text:
    clear = p_value < 0.05
    style = ("green" if difference > 0 else "red") if clear else "default"
    return Text(f"{100 * difference:+.1f}", style=style).append(f"  p {_chance(p_value)}", style="dim")


def _chance(p_value: float) -> str:
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def _contrasts(found: Verdict) -> Iterator[RenderableType]:
    """A row for each network, a column for each matrix; several values where several stages made one."""
    matrices = list(dict.fromkeys(row.matrix for row in found.contrasts))
    if not matrices:
        return
    rows = []
    for model in dict.fromkeys(row.model for row in found.contrasts):
        values = {
            matrix: [row.block_contrast for row in found.contrasts if (row.model, row.matrix) == (model, matrix)]
            for matrix in matrices
        }
        rows.append((Text(model, style="bold"), *(", ".join(f"{value:+.2f}" for value in values[m]) for m in matrices)))
    yield heading("Block contrast", "for the known hierarchy: mean within superclasses less mean across them")
    yield table(rows, head=("network", *matrices), right=range(1, len(matrices) + 1))


def _superclasses(found: Verdict) -> Iterator[RenderableType]:
    if not found.superclasses:
        return
    yield heading("Superclasses found", "agreement with the known ones: adjusted Rand index, p of the block contrast")
    names = [row.model for row in found.superclasses]
    rows = []
    for row in found.superclasses:
        name = Text(row.model, style="bold")
        if names.count(row.model) > 1:
            name.append(f" {row.stage}", style="not bold dim")
        score = "" if row.adjusted_rand_index is None else f"{row.adjusted_rand_index:.2f}"
        chance = "" if row.p_value is None else f"p {_chance(row.p_value)}"
        rows.append((name, score, Text(chance, style="dim"), _groups(row.groups)))
    yield table(rows)


def _groups(groups: Sequence[Sequence[str]]) -> Text:
    line = Text()
    for number, names in enumerate(groups):
        line.append(" | " if number else "", style="dim")
        line.append(", ".join(names), style=GROUP_STYLES[number % len(GROUP_STYLES)])
    return line


def _remarks(title: str, remarks: Sequence[str], *, style: str) -> Iterator[RenderableType]:
    if remarks:
        yield heading(title)
        yield from (Padding(Text(remark, style=style), (0, 0, 0, 2)) for remark in remarks)


def _first(
    rows: Sequence[Sequence[RenderableType]], most: int, *, head: Sequence[str], verbose: bool
) -> Iterator[RenderableType]:
    shown = rows if verbose else rows[:most]
    yield table(shown, head=head)
    if len(shown) < len(rows):
        yield Padding(Text(f"{len(rows) - len(shown):,} more (--verbose)", style="dim"), (0, 0, 0, 2))


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
        **{name: None if value != value else value for name, value in values.items()},
        "selected_on": str(group.attributes["selected_on"]),
        "checkpoint": str(run.folder.checkpoints(group.name) / "best.safetensors"),
    }


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _commands(recipe: Recipe, run: Run) -> Iterator[tuple[str, str]]:
    """Commands that show what there is: of each of the telling kinds the last stage, which is seldom the first try."""
    folder, names = run.folder.path, [stage.name for stage in recipe.stages if stage.name in (*run.ran, *run.cached)]
    yield _command("results", "ls", folder), "every group of the store"
    telling = {"extract": "C, in colours", "confusion": "M, in colours", "attack": "accuracies, class by class"}
    for kind, what in telling.items():
        name = _last(stage.name for stage in recipe.stages if stage.kind == kind and stage.name in names)
        if name is not None:
            yield _command("results", "show", folder, name), what


def _command(*words: str | Path) -> str:
    return shlex.join(["surgery", *map(str, words)])


def _last(items: Iterable[_Item]) -> _Item | None:
    return next(iter([*items][::-1]), None)


def _width() -> int:
    target = console(sys.stdout)
    return target.width if target.is_terminal else WIDE

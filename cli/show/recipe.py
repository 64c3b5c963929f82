"""Recipes and previews of their runs, as text and as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from surgery.attack import pixels_text
from surgery.recipe import PreviewedStage, Recipe
from surgery.run.forecast import Estimate
from surgery.toml_writer import pair
from surgery_cli.show.board import duration
from surgery_cli.show.pieces import count, heading, table

SIGNS = {"cached": Text("✓", style="green"), "will run": Text("▸", style="cyan")}


def recipes_view(recipes: Mapping[str, str]) -> Iterator[RenderableType]:
    """Shipped recipes with their purposes."""
    yield table([(Text(name, style="bold"), said) for name, said in recipes.items()], head=("recipe", "purpose"))


def sound_view(file: str, recipe: Recipe) -> Iterator[RenderableType]:
    """A recipe without mistakes: its stages, and the inputs of each."""
    line = Text(file, style="bold").append(": no mistakes", style="green")
    yield line.append(f", {count(len(recipe.stages), 'stage')}", style="not bold default")
    rows = [
        (Text(stage.name), Text(stage.kind, style="dim"), _reads(map(str, stage.inputs.values())))
        for stage in recipe.stages
    ]
    yield table(rows)


def preview_dict(
    recipe: Recipe,
    preview: Sequence[PreviewedStage],
    times: Mapping[str, Estimate],
    *,
    folder: str,
    data_missing: str | None,
) -> dict[str, Any]:
    """A preview as plain values.

    `times`: the estimates, by the names of stages. `data_missing`: why the data cannot be loaded, or None.
    """
    return {
        "recipe": recipe.name,
        "source": recipe.source,
        "folder": folder,
        "data": {"name": recipe.data.name, "missing": data_missing},
        "stages": [
            {**stage.as_json(), "time": asdict(times[stage.name]) if stage.name in times else None} for stage in preview
        ],
        "passes": _passes(preview),
    }


def preview_view(
    recipe: Recipe,
    preview: Sequence[PreviewedStage],
    times: Mapping[str, Estimate],
    *,
    folder: str,
    verbose: bool,
    measured: bool,
) -> Iterator[RenderableType]:
    """A row for each stage, and below it the parameters that the recipe sets; all of them if `verbose`.

    `times`: the estimates, by the names of stages. `measured`: whether the speed of networks was measured for them.
    """
    runs = [stage for stage in preview if stage.state == "will run"]
    yield heading(recipe.name, f"{recipe.source}, in {folder}")
    if recipe.description:
        yield Text(f"  {recipe.description}")
    yield Text("")
    rows = [
        (
            SIGNS[stage.state],
            Text(stage.name, style="dim" if stage.state == "cached" else "bold"),
            Text(stage.kind, style="dim"),
            _reads(stage.inputs),
            amount(stage.passes) if stage.passes else "",
            f"~{duration(times[stage.name].seconds)}" if stage.name in times else "",
            Text(stage.why, style="dim" if stage.state == "cached" else ""),
        )
        for stage in preview
    ]
    yield table(rows, head=("", "stage", "kind", "reads", "images", "time", "why"), right=(4, 5))
    yield from _settings(recipe, preview, verbose=verbose)
    total = _passes(runs)
    cost = "" if not total else f"; about {amount(total)} images forward and back"
    unknown = len(runs) - len(times)
    if times and not unknown:
        cost += f", about {duration(sum(time.seconds for time in times.values()))}"
    yield Text(f"\n{len(runs)} of {count(len(preview), 'stage')} will run{cost}.", style="bold")
    bases = list(dict.fromkeys(time.basis for time in times.values()))
    shown = bases if verbose else bases[:2]
    # With --time, what remains unknown are networks of a user, whose code a preview does not run.
    remedy = "" if measured else " (--time measures networks)"
    words = [*shown, *([f"{len(bases) - len(shown)} more (--verbose)"] if len(bases) > len(shown) else [])]
    words += [f"unknown for {count(unknown, 'stage')}{remedy}"] if unknown else []
    if words:
        yield Text(f"Times: {'; '.join(words)}.", style="dim")


def amount(number: int) -> str:
    """`950`, `12.3 thousand`, `4.5 million`."""
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)


def _reads(inputs: Iterable[str]) -> Text:
    names = list(inputs)
    return Text(", ".join(names) if len(names) < 4 else count(len(names), "stage"), style="dim")


def _settings(recipe: Recipe, preview: Sequence[PreviewedStage], *, verbose: bool) -> Iterator[RenderableType]:
    """The parameters of each stage as a file writes them, once for all repetitions that share them."""
    yield heading("Parameters", "all of them" if verbose else "those that the recipe sets (--verbose: all)")
    said: dict[str, list[str]] = {}
    for stage in preview:
        given = stage.parameters
        if not verbose:
            parameters = recipe.stage(stage.name).parameters
            given = parameters.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
        text = "\n".join(pair(name, readable(value, name)) for name, value in given.items() if value is not None)
        said.setdefault(text, []).append(stage.name)
    for text, names in said.items():
        if text:
            yield Padding(Text(", ".join(names), style="bold"), (0, 0, 0, 2))
            yield Padding(Text(text, style="dim"), (0, 0, 0, 4))


def readable(value: Any, name: str = "") -> Any:
    """A value as people write it: sizes of attacks in 255ths if they are whole multiples; None is omitted."""
    if isinstance(value, Mapping):
        return {key: readable(item, key) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [readable(item, name) for item in value]
    if isinstance(value, float) and name in ("epsilon", "step_size"):
        text = pixels_text(value)
        return text if "/" in text else value
    return value


def _passes(preview: Sequence[PreviewedStage]) -> int | None:
    costs = [stage.passes for stage in preview]
    return None if None in costs else sum(cost for cost in costs if cost is not None)

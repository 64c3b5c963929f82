"""The stage kind `report`: figures of the other stages, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery.recipe.running.context import Context
from surgery.recipe.running.pictures import Figures, accuracies_figure, stage_figures
from surgery.recipe.running.verdict import Verdict, verdict
from surgery.recipe.stages import ReportStage
from surgery.store import Group
from surgery.store.stages import summary_group

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def report(context: Context, stage: ReportStage) -> Group:
    """Draw what there is to draw, and say what was found."""
    names = [item.stage for item in context.stage.inputs.values()]
    found = verdict(context.recipe, context.folder, context.data.hierarchy, names)
    drawn = _draw(context, stage, names, found) if stage.figures else []
    return summary_group(found.lines(), drawn, provenance=context.provenance(), name=context.stage.name)


def _draw(context: Context, stage: ReportStage, names: list[str], found: Verdict) -> list[str]:
    """Save all figures and return their files; those of an earlier report of this name that are not among them go."""
    earlier = context.folder.figures_of(context.stage.name)
    context.folder.claim(context.stage.name, context.record)
    tell, drawn = context.steps("drawing"), []
    for number, (name, figures) in enumerate(_figures(context, names, found), start=1):
        for what, draw in figures.items():
            drawn += _saved(context, stage, f"{name}-{what}", draw)
        tell(number, len(names) + 1)
    for file in set(earlier) - set(drawn):
        (context.folder.path / file).unlink(missing_ok=True)
    return drawn


def _figures(context: Context, names: list[str], found: Verdict) -> Iterator[tuple[str, Figures]]:
    """For each stage, and for the report itself, what can be drawn."""
    known, title = context.data.hierarchy, context.data.title
    for name in names:
        yield name, stage_figures(context.recipe, context.folder, context.recipe.stage(name), data=title, known=known)
    yield context.stage.name, accuracies_figure(found.accuracies, title)


def _saved(context: Context, stage: ReportStage, name: str, draw: Callable[[], Figure]) -> list[str]:
    """The files of one figure; what cannot be drawn is told, and is no reason to lose the rest."""
    from surgery.report import figures

    try:
        figure = draw()
    except InputError as error:
        context.tell(text=f"no figure {name}: {error.message}", lasting=True)
        return []
    paths = [context.folder.figures / f"{name}.{extension}" for extension in stage.figures]
    return [str(figures.save(figure, path).relative_to(context.folder.path)) for path in paths]

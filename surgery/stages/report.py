"""The stage kind `report`: figures of the other stages, and the summary of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from surgery.errors import InputError
from surgery.stages.attack import Accuracy
from surgery.stages.fields import Reference
from surgery.stages.folder import RunFolder
from surgery.stages.stage import Context, Figures, StageTable
from surgery.stages.summary import summarize
from surgery.store import Group, Variable, list_groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ReportStage(StageTable):
    """Draws the figures and summarizes the findings of the other stages; one for all combinations of a matrix."""

    heading: ClassVar[str] = "Stage `report`"
    mark: ClassVar[str] = "figures/.{}.key.json"
    gathers: ClassVar[bool] = True
    uses_hierarchy: ClassVar[bool] = True

    kind: Literal["report"] = Field(description="Figures and summary.")
    stages: Annotated[tuple[Annotated[str, Reference(kinds=())], ...], Field(strict=False, min_length=1)] | None = (
        Field(default=None, description="Stages that it reports on; all by default.")
    )
    figures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], Field(strict=False)] = Field(
        default=("png",), description="Formats in which figures are saved; an empty list draws none."
    )

    @classmethod
    def files_of(cls, stage: str, folder: RunFolder) -> tuple[str, ...]:
        return folder.figures_of(stage)

    def run(self, context: Context) -> Group:
        found = summarize(context.reads)
        accuracies = [finding for finding in found.findings if isinstance(finding, Accuracy)]
        drawn = self._draw_all(context, accuracies)
        return summary_group(found.lines(), drawn, provenance=context.provenance(), name=context.name)

    def _draw_all(self, context: Context, accuracies: Sequence[Accuracy]) -> list[str]:
        """Save all figures and return their files; delete those that this report drew earlier and does not draw now."""
        # Figures are named after the stage that they show, so two reports may share a file: what another report
        # lists is not this one's to delete.
        earlier = set(context.folder.figures_of(context.name))
        for report in _other_reports(context):
            earlier -= set(context.folder.figures_of(report))
        drawn: list[str] = []
        if self.figures:
            context.claim()
            tell = context.steps("drawing")
            for number, (name, figures) in enumerate(_figures(context, accuracies), start=1):
                for what, draw in figures.items():
                    drawn += self._saved(context, file_name(name, what), draw)
                tell(number, len(context.reads) + 1)
        for file in earlier - set(drawn):
            (context.folder.path / file).unlink(missing_ok=True)
        return drawn

    def _saved(self, context: Context, name: str, draw: Callable[[], Figure]) -> list[str]:
        """The files of one figure; a figure that cannot be drawn is reported, and the others are still drawn."""
        from surgery.report import figures

        try:
            figure = draw()
        except InputError as error:
            context.tell(text=f"no figure {name}: {error.message}", lasting=True)
            return []
        paths = [context.folder.figures / f"{name}.{extension}" for extension in self.figures]
        return [str(figures.save(figure, path).relative_to(context.folder.path)) for path in paths]


def file_name(stage: str, figure: str) -> str:
    """The name of a figure's file without extension, as in `confusion.model-at-matrix`.

    Some programs and web sites refuse the @ of a repetition; no name of a stage in a recipe has a dot.
    """
    return f"{stage}-{figure}".replace("@", ".")


def _other_reports(context: Context) -> Iterator[str]:
    if context.folder.store.exists():
        for group in list_groups(context.folder.store):
            if group.kind == "report" and group.name != context.name:
                yield group.name


def _figures(context: Context, accuracies: Sequence[Accuracy]) -> Iterator[tuple[str, Figures]]:
    """The figures of each stage, and those of the report itself."""
    for finished in context.reads:
        yield finished.stage.name, finished.stage.parameters.draw(finished)
    words = {finished.model: finished.words for finished in context.reads if finished.words}
    yield context.name, accuracies_figure(accuracies, context.data.title, words)


def accuracies_figure(accuracies: Sequence[Accuracy], title: str, words: Mapping[str, str]) -> Figures:
    """Natural and robust accuracies of all networks next to each other; `words`: networks in words, by their names."""
    if not accuracies:
        return {}
    # The stage tells rows apart that are about the same network.
    stages = Counter(model for model, _ in {(row.model, row.stage) for row in accuracies})
    named = {row.model: words.get(row.model, row.model) for row in accuracies}
    models = [f"{named[row.model]}{f' [{row.stage}]' if stages[row.model] > 1 else ''}" for row in accuracies]
    rows, attacks = list(dict.fromkeys(models)), list(dict.fromkeys(row.attack for row in accuracies))
    shares = np.full((len(rows), len(attacks)), np.nan)
    intervals = np.full((*shares.shape, 2), np.nan)
    for model, row in zip(models, accuracies, strict=True):
        place = rows.index(model), attacks.index(row.attack)
        shares[place], intervals[place] = row.accuracy, row.interval

    def draw() -> Figure:
        from surgery.report import figures

        return figures.accuracies(rows, attacks, shares, intervals, title=title)

    return {"accuracies": draw}


def summary_group(
    lines: Sequence[str], figures: Sequence[str], *, provenance: Mapping[str, str], name: str = "report"
) -> Group:
    """The summary line by line, and the files of the figures; a store has no empty arrays."""
    variables = []
    if lines:
        texts = np.array(list(lines), dtype=object)
        said = "what was found, in words"
        variables.append(Variable(name="verdict", data=texts, dimensions=("line",), long_name=said))
    if figures:
        files = np.array(list(figures), dtype=object)
        said = "file of a figure, from the run folder on"
        variables.append(Variable(name="figure", data=files, dimensions=("number",), long_name=said))
    return Group(name=name, kind="report", variables=tuple(variables), provenance=provenance)

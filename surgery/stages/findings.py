"""What a run reports: findings of stages, grouped into sections that a terminal, a store and JSON show alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

Tone = Literal["plain", "strong", "faint", "good", "bad", "warning"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry of a table: its text, a less important detail, and the tone in which a terminal shows the text.

    `parts`: instead of `text`, several texts that a terminal tells apart by color, such as superclasses.
    """

    text: str = ""
    detail: str = ""
    tone: Tone = "plain"
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of a section: `head` may be empty; `right`: the columns that are aligned to the right.

    `shown`: rows that are shown unless all are asked for; None for no limit.
    """

    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    head: tuple[str, ...] = ()
    right: tuple[int, ...] = ()
    shown: int | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the summary.

    `key`: its name in JSON. `title`: above its table. `line_title`: above its lines in the store. `place`: sections are
    shown in the order of their places. `lines`: its findings as plain texts. `grid`: its findings as a table.
    """

    key: str
    title: str
    line_title: str
    place: int
    lines: Callable[[Sequence[Any]], Sequence[str]]
    grid: Callable[[Sequence[Any]], Grid]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a stage found; `section` says where the summary shows it."""

    section: ClassVar[Section]

    def as_json(self) -> Any:
        return asdict(self)

    def identity(self) -> Hashable | None:
        """What the finding is about, if only the first finding about it is shown; None to show all."""
        return None


@dataclass(frozen=True, kw_only=True)
class Contrast(Finding):
    """Block contrast of a matrix (`C`, `C centered`, `M`) for the known hierarchy of the data."""

    stage: str
    model: str
    matrix: str
    block_contrast: float


def _contrast_lines(found: Sequence[Contrast]) -> list[str]:
    lines = []
    for model in dict.fromkeys(row.model for row in found):
        rows = [row for row in found if row.model == model]
        lines.append(f"{model}: {', '.join(f'{row.matrix} {row.block_contrast:+.2f}' for row in rows)}")
    return lines


def _contrast_grid(found: Sequence[Contrast]) -> Grid:
    """A row for each network and a column for each matrix; several values where several stages made one."""
    matrices = tuple(dict.fromkeys(row.matrix for row in found))
    rows = []
    for model in dict.fromkeys(row.model for row in found):
        values = [
            [f"{row.block_contrast:+.2f}" for row in found if (row.model, row.matrix) == (model, matrix)]
            for matrix in matrices
        ]
        rows.append((Cell(text=model, tone="strong"), *(Cell(text=", ".join(own)) for own in values)))
    note = "for the known hierarchy: mean within superclasses minus mean across them"
    if any(matrix.startswith("M") for matrix in matrices):
        # The contrast of M itself grows with the success of the attack.
        note += "; M among the fooled images only"
    return Grid(
        rows=tuple(rows),
        note=note,
        head=("network", *matrices),
        right=tuple(range(1, len(matrices) + 1)),
    )


def chance_text(p_value: float) -> str:
    """A p-value as tables show it."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


Contrast.section = Section(
    key="contrasts",
    title="Block contrast",
    line_title="Block contrast for the known hierarchy",
    place=30,
    lines=_contrast_lines,
    grid=_contrast_grid,
)


@dataclass(frozen=True, kw_only=True)
class Remark(Finding):
    """A sentence that the reader should not miss, such as a check that failed."""

    text: str

    def as_json(self) -> str:
        return self.text


def remarks(*, key: str, title: str, place: int, tone: Tone) -> Section:
    """A section of remarks, one a line."""
    return Section(
        key=key,
        title=title,
        line_title=title,
        place=place,
        lines=lambda found: [row.text for row in found],
        grid=lambda found: Grid(rows=tuple((Cell(text=row.text, tone=tone),) for row in found)),
    )

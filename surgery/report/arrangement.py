"""The order of classes along the axes of a matrix, and the names that fit there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from surgery.errors import InputError
from surgery.hierarchy.hierarchy import Hierarchy
from surgery.report.arrays import check_option
from surgery.report.style import SMALL, fitted_names, text_width

ORDERS = ("label", "hierarchy")

_LINE = 1.05 * SMALL
"""Points from one name to the next."""

_LONGEST = 0.36
"""The largest share of a figure's width for names."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of adjacent rows, `start` to `stop - 1`, of one superclass."""

    start: int
    stop: int
    superclass: int

    @property
    def middle(self) -> float:
        return (self.start + self.stop - 1) / 2


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """K classes in the order in which they are drawn.

    `order`, `names`, `superclass`: the label, the name and the number of the superclass of the class in each row.
    `superclass_names`: the names of the superclasses by number. Without a hierarchy the last two are None.
    """

    order: tuple[int, ...]
    names: tuple[str, ...]
    superclass: tuple[int, ...] | None = None
    superclass_names: tuple[str, ...] | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of rows of one superclass, from the top; none without a hierarchy."""
        runs, start = [], 0
        for number, members in groupby(self.superclass or ()):
            stop = start + len(list(members))
            runs.append(Run(start=start, stop=stop, superclass=number))
            start = stop
        return tuple(runs)

    @property
    def blocks(self) -> tuple[tuple[Run, Run], ...]:
        """Runs of rows and of columns with the same superclass, in pairs: the blocks of +1 in C_op (section 4)."""
        runs = self.runs
        return tuple((row, column) for row in runs for column in runs if row.superclass == column.superclass)

    @property
    def is_grouped(self) -> bool:
        """Whether there are superclasses, and each is one run."""
        return self.superclass is not None and len(self.runs) == len(set(self.superclass))

    def name_of(self, run: Run) -> str:
        """The name of a run's superclass; empty if superclasses have no names."""
        return self.superclass_names[run.superclass] if self.superclass_names else ""

    def place_of(self, superclass: int) -> int:
        """The position of a superclass from the top, counted from zero."""
        return list(dict.fromkeys(self.superclass or ())).index(superclass)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A name and its position in rows."""

    position: float
    name: str


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The names along an axis, and the resulting size of a cell in points."""

    ticks: tuple[Tick, ...]
    cell: float
    are_all_classes: bool


def arrange(class_names: tuple[str, ...], hierarchy: Hierarchy | None, order: str) -> Arrangement:
    """Arrange classes in label order, or by superclass and within a superclass in the order of the dendrogram.

    Classes of the hierarchy are matched by name (`Hierarchy.matched`).

    Raises InputError for an unknown order, a hierarchy of other classes, or order="hierarchy" without a hierarchy.
    """
    check_option(order, ORDERS, "order")
    if hierarchy is None:
        if order == "hierarchy":
            raise InputError("order='hierarchy' needs a hierarchy", hint="give one, or use order='label'")
        return Arrangement(order=tuple(range(len(class_names))), names=class_names)
    hierarchy = hierarchy.matched(class_names)
    labels = list(range(len(class_names)))
    if order == "hierarchy":
        rank = {label: place for place, label in enumerate(leaves(hierarchy))}
        labels.sort(key=lambda label: (hierarchy.superclass[label], rank[label]))
    return arranged(labels, class_names, hierarchy)


def arranged(labels: Sequence[int], class_names: tuple[str, ...], hierarchy: Hierarchy) -> Arrangement:
    """Arrange the classes of a hierarchy in a given order of their labels."""
    return Arrangement(
        order=tuple(labels),
        names=tuple(class_names[label] for label in labels),
        superclass=tuple(hierarchy.superclass[label] for label in labels),
        superclass_names=hierarchy.names,
    )


def leaves(hierarchy: Hierarchy) -> tuple[int, ...]:
    """The labels in an order in which no branches of the dendrogram cross; label order without a dendrogram.

    Of two branches, the one with the smaller smallest label comes first, to stay close to label order.

    Raises InputError for merges that are no linkage matrix.
    """
    members: dict[int, tuple[int, ...]] = {label: (label,) for label in range(len(hierarchy.class_names))}
    for number, (left, right, _, _) in enumerate(hierarchy.merges or ()):
        if left == right or left not in members or right not in members:
            raise InputError(
                f"merge {number} of the hierarchy: expected two clusters not merged before, got {left} and {right}"
            )
        branches = sorted((members.pop(left), members.pop(right)), key=min)
        members[len(hierarchy.class_names) + number] = branches[0] + branches[1]
    return sum(members.values(), ())


def fit_labels(arrangement: Arrangement, room: float, *, strip: float = 0.0, beside: float = 0.0) -> Labels:
    """The names that fit, if they and a matrix share `room` points of width.

    These are all class names; else the names of the superclasses, if they have names and each is one run; else a
    selection of names with equal distances. `strip`: points for the names of superclasses, needed next to class names
    only. `beside`: the share of the matrix's side for other parts. Very long names are shortened, to leave room for the
    matrix.
    """
    classes = len(arrangement.names)
    names = [Tick(position=float(row), name=name) for row, name in enumerate(arrangement.names)]
    choices = [(names, strip)]
    if arrangement.is_grouped and arrangement.superclass_names is not None:
        groups = [Tick(position=run.middle, name=arrangement.name_of(run)) for run in arrangement.runs]
        choices.append((groups, 0.0))
    for number, (choice, taken) in enumerate(choices):
        short = fitted_names([tick.name for tick in choice], _LONGEST * room)
        ticks = tuple(replace(tick, name=name) for tick, name in zip(choice, short, strict=True))
        cell = (room - taken - max(text_width(tick.name) for tick in ticks)) / (1.0 + beside) / classes
        kept = thinned(ticks, _LINE / cell)
        if kept == ticks or number == len(choices) - 1:
            return Labels(ticks=kept, cell=cell, are_all_classes=number == 0 and kept == ticks)
    raise AssertionError("the last choice is always taken")


def thinned(names: Sequence[Tick], distance: float) -> tuple[Tick, ...]:
    """The first name, and every name at least `distance` rows after the last one kept; rounding errors are ignored."""
    kept = list(names[:1])
    for tick in names[1:]:
        if tick.position - kept[-1].position >= distance - 1e-6:
            kept.append(tick)
    return tuple(kept)

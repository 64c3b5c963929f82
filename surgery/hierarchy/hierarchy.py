"""The `Hierarchy`: which classes belong to which superclass (Bai et al. 2021, section 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from textwrap import shorten

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from surgery.errors import InputError, suggest
from surgery.hierarchy.scores import PERMUTATIONS, Scores, score

Merge = tuple[int, int, float, int]
"""A row of scipy's linkage matrix: two clusters, the height at which they merge, the size of the new cluster."""

_UNREADABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

_SHOWN = 24
"""Superclasses that are printed: one screen."""


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A partition of K classes into superclasses, with the dendrogram that it was cut from, if there is one.

    `class_names`: K different names, in label order. `superclass`: for each class the number of its superclass, in the
    order in which superclasses first appear. `names`: a name for each superclass, or None. `merges`: K - 1 rows of
    scipy's linkage matrix, or None. `method`: a linkage, `spectral`, or the source of the hierarchy.

    Raises InputError naming the class or superclass where these do not fit together.
    """

    class_names: tuple[str, ...]
    superclass: tuple[int, ...]
    names: tuple[str, ...] | None = None
    merges: tuple[Merge, ...] | None = None
    method: str

    def __post_init__(self) -> None:
        _check_distinct(self.class_names, "class")
        _check_assignment(self.class_names, self.superclass)
        if self.names is not None:
            _check_distinct(self.names, "superclass")
            if len(self.names) != self.num_superclasses:
                raise InputError(f"{len(self.names)} names for {self.num_superclasses} superclasses")
        if self.merges is not None and len(self.merges) != len(self.class_names) - 1:
            raise InputError(
                f"a dendrogram of {len(self.class_names)} classes has one merge less; got {len(self.merges)}"
            )

    def __repr__(self) -> str:
        """The superclasses with their classes, one line each, at most a screen."""
        rows = [f"  {name} ({size}): {members}" for name, size, members in self._rows(90)]
        return "\n".join((self._headline, *rows))

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        rows = [
            f"<tr><td>{escape(name)}</td><td>{size}</td><td>{escape(members)}</td></tr>"
            for name, size, members in self._rows(300)
        ]
        head = "<tr><th>superclass</th><th>size</th><th>classes</th></tr>"
        return f"<p>{escape(self._headline)}</p><table>{head}{''.join(rows)}</table>"

    @property
    def _headline(self) -> str:
        size, dendrogram = f"{len(self.class_names)} classes", "" if self.merges is None else ", with a dendrogram"
        return f"Hierarchy of {size} in {self.num_superclasses} superclasses ({self.method}{dendrogram})"

    def _rows(self, width: int) -> Iterator[tuple[str, int, str]]:
        """The name, the size and the classes of the first superclasses; the rest as one row."""
        names = numbered(self.num_superclasses) if self.names is None else self.names
        groups = self.groups
        for name, group in zip(names[:_SHOWN], groups, strict=False):
            members = ", ".join(self.class_names[label] for label in group)
            yield name, len(group), shorten(members, width, placeholder=" ...")
        if len(groups) > _SHOWN:
            yield f"{len(groups) - _SHOWN} more", sum(map(len, groups[_SHOWN:])), "..."

    @staticmethod
    def of_labels(
        labels: Sequence[int],
        *,
        class_names: Sequence[str] | None = None,
        merges: tuple[Merge, ...] | None = None,
        method: str,
    ) -> Hierarchy:
        """A hierarchy from any label for each class, renumbered by first appearance."""
        order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        return Hierarchy(
            class_names=numbered(len(labels)) if class_names is None else tuple(class_names),
            superclass=tuple(order[label] for label in labels),
            merges=merges,
            method=method,
        )

    @staticmethod
    def of_groups(
        groups: Mapping[str, Sequence[str]], *, class_names: Sequence[str] | None = None, method: str
    ) -> Hierarchy:
        """A hierarchy from the names of the classes in each superclass.

        Classes are in the order of `class_names`, by default in that of the groups; superclasses are numbered by first
        appearance, whatever their order in `groups`.

        Raises InputError naming a class that is missing, unknown or in two superclasses.
        """
        home: dict[str, str] = {}
        for name, members in groups.items():
            for member in members:
                if member in home:
                    twice = f"{home[member]!r} and {name!r}" if home[member] != name else f"{name!r} twice"
                    raise InputError(f"class {member!r} is in superclass {twice}")
                home[member] = name
        order = tuple(home) if class_names is None else tuple(class_names)
        known = set(order)
        for name, group in home.items():
            if name not in known:
                raise InputError(f"superclass {group!r} has the unknown class {name!r}", hint=suggest(name, order))
        for name in order:
            if name not in home:
                raise InputError(f"class {name!r} is in no superclass", hint=suggest(name, home))
        names = tuple(dict.fromkeys(home[name] for name in order))
        numbers = {name: number for number, name in enumerate(names)}
        superclass = tuple(numbers[home[name]] for name in order)
        return Hierarchy(class_names=order, superclass=superclass, names=names, method=method)

    @property
    def num_superclasses(self) -> int:
        return max(self.superclass) + 1

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The class labels of each superclass."""
        members: list[list[int]] = [[] for _ in range(self.num_superclasses)]
        for label, number in enumerate(self.superclass):
            members[number].append(label)
        return tuple(map(tuple, members))

    @property
    def block_matrix(self) -> Tensor:
        """C_op `(K, K)`, float64: +1 where two classes share their superclass, -1 elsewhere."""
        labels = torch.tensor(self.superclass)
        return torch.where(labels[:, None] == labels[None, :], 1.0, -1.0).double()

    def for_classes(self, class_names: Sequence[str]) -> Hierarchy:
        """The hierarchy of these classes, in this order: for part of a data set, or another order of its labels.

        Raises InputError with the nearest names for a class that is not in the hierarchy.
        """
        for name in class_names:
            if name not in self.class_names:
                raise InputError(f"the hierarchy has no class {name!r}", hint=suggest(name, self.class_names))
        labels = [self.superclass[self.class_names.index(name)] for name in class_names]
        kept = tuple(dict.fromkeys(labels))
        same = tuple(class_names) == self.class_names
        return Hierarchy(
            class_names=tuple(class_names),
            superclass=tuple(kept.index(label) for label in labels),
            names=None if self.names is None else tuple(self.names[label] for label in kept),
            merges=self.merges if same else None,
            method=self.method,
        )

    def matched(self, class_names: Sequence[str]) -> Hierarchy:
        """The hierarchy of these classes, found by name as in `for_classes`.

        A hierarchy of as many classes called 0, 1, 2, ... is about labels, and takes over the names.

        Raises InputError for a class that the hierarchy does not have, and if the hierarchy has names where
        `class_names` are 0, 1, 2, ...: matched by order, classes would silently meet the wrong superclasses.
        """
        names, unnamed = tuple(class_names), numbered(len(class_names))
        if names == self.class_names:
            return self
        if self.class_names == unnamed:
            return replace(self, class_names=names)
        if names == unnamed:
            raise InputError(
                f"the classes have no names, only the numbers 0 to {len(names) - 1}, but the hierarchy names its "
                f"classes ({shorten(', '.join(self.class_names), 60, placeholder=' ...')})",
                hint="give the names of the classes in label order (`class_names`)",
            )
        return self.for_classes(names)

    def scores(
        self,
        C: ArrayLike | Tensor,
        reference: Hierarchy,
        *,
        permutations: int = PERMUTATIONS,
        generator: torch.Generator | None = None,
    ) -> Scores:
        """Scores of this hierarchy against `reference`, and of the reference in the correlations `C` `(K, K)`.

        A reference must come from another source than C: the p-value of a hierarchy that was found in the same C means
        nothing. `permutations` relabelings are drawn with `generator` (a fixed seed by default), or all are tried where
        there are no more of them.

        Classes are matched by name; the order of the reference does not matter, and it may have more classes. A
        reference whose classes are called 0, 1, 2, ... is matched by label.

        Raises InputError where a class is not in the reference, classes without names meet a reference with names, or
        the reference has one superclass or only single classes.
        """
        return score(
            C,
            found=self.superclass,
            reference=reference.matched(self.class_names).superclass,
            merges=self.merges,
            method=self.method,
            permutations=permutations,
            generator=generator,
        )


def numbered(count: int) -> tuple[str, ...]:
    """The labels as names, for classes that have none."""
    return tuple(str(label) for label in range(count))


def _check_distinct(names: tuple[str, ...], what: str) -> None:
    if not names:
        raise InputError("a hierarchy needs at least one class")
    first: dict[str, int] = {}
    for label, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise InputError(f"the name of {what} {label} is a non-empty string; got {name!r}")
        if _UNREADABLE.search(name):  # a store could not hold it
            raise InputError(f"the name of {what} {label} has no control characters and is UTF-8; got {name!r}")
        if name in first:
            raise InputError(f"two {what} names are {name!r}: {what} {first[name]} and {what} {label}")
        first[name] = label


def _check_assignment(class_names: tuple[str, ...], superclass: tuple[int, ...]) -> None:
    if len(superclass) < len(class_names):
        raise InputError(f"class {class_names[len(superclass)]!r} has no superclass")
    if len(superclass) > len(class_names):
        raise InputError(f"expected a superclass number for each of {len(class_names)} classes, got {len(superclass)}")
    next_number = 0
    for name, number in zip(class_names, superclass, strict=True):
        if not 0 <= number <= next_number:
            raise InputError(
                f"superclass {number} of class {name!r} is out of order: superclasses are numbered by first appearance",
                hint="Hierarchy.of_labels renumbers any labels",
            )
        next_number = max(next_number, number + 1)

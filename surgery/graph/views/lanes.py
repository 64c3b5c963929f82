"""Lanes, as in `git log --graph`: the column of each node in a drawing.

The next node keeps the lane of the value that it reads; a value that is needed later moves to another lane, which is
free again after its last reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from surgery.graph.views.text import Line


@dataclass(frozen=True, kw_only=True)
class Track:
    """The path of a value: the lane that it enters at each row, and the rows that read it."""

    lanes: tuple[tuple[int, int], ...]
    readers: tuple[int, ...]

    def lane(self, row: int) -> int:
        """The lane of the value where it passes `row`."""
        return next(lane for start, lane in reversed(self.lanes) if start <= row)


def layout(rows: Sequence[Line], aside: Set[str] = frozenset()) -> tuple[Track, ...]:
    """Give each node a lane, and its value the lanes in which it waits for its readers.

    The nodes named in `aside` get separate lanes next to the others.
    """
    readers: dict[str, list[int]] = {row.name: [] for row in rows}
    for index, row in enumerate(rows):
        for source in row.reads:
            readers[source].append(index)
    taken: dict[int, str] = {}
    ways: dict[str, list[tuple[int, int]]] = {}
    for index, row in enumerate(rows):
        ending = [name for name in row.reads if readers[name][-1] == index]
        alike = [name for name in row.reads if (name in aside) == (row.name in aside)]
        followed = alike if alike or row.name in aside else row.reads
        lane = _choose([(ways[name], name in ending) for name in followed], taken)
        pushed = taken.get(lane)
        taken[lane] = row.name
        ways[row.name] = [(index, lane)]
        if pushed is not None and pushed not in ending:
            free = _free(taken)
            taken[free] = pushed
            ways[pushed].append((index, free))
        finished = ending if readers[row.name] else [*ending, row.name]
        taken = {lane: name for lane, name in taken.items() if name not in finished}
    return tuple(Track(lanes=tuple(ways[row.name]), readers=tuple(readers[row.name])) for row in rows)


Way = Sequence[tuple[int, int]]


def _choose(read: Sequence[tuple[Way, bool]], taken: Mapping[int, str]) -> int:
    """Follow the leftmost value that ends here, else push aside the latest that is read, else open a lane."""
    if not read:
        return _free(taken)
    ending = [way[-1][1] for way, ends in read if ends]
    return min(ending) if ending else max((way for way, _ in read), key=lambda way: way[0])[-1][1]


def _free(taken: Mapping[int, str]) -> int:
    return next(lane for lane in range(len(taken) + 1) if lane not in taken)

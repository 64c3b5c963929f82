"""Hierarchies from WordNet: classes that are synsets, grouped by their hypernyms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from surgery.errors import InputError, Position, suggest
from surgery.files import existing_file
from surgery.hierarchy.hierarchy import Hierarchy

Hypernyms = Mapping[str, "str | Sequence[str]"]
"""From a synset to its hypernym, or to several."""


def from_wordnet(
    wnids: Sequence[str],
    hypernyms: Hypernyms | str | Path,
    *,
    ancestors: Sequence[str] | Mapping[str, str] | None = None,
    depth: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Hierarchy:
    """Group classes, given by WordNet ids in label order (`n02123045`), by their hypernyms.

    `hypernyms` maps child to parent, or to several parents; or is a file with a line `child parent` for each pair.
    Either `ancestors` are given (ids, or a mapping from ids to names for the superclasses): a class belongs to the
    ancestor that it is a kind of, and to the more specific one where one ancestor is a kind of the other. Or `depth` is
    given, the number of steps below the root at which to group, along the first parent of each; a class that is not
    deeper is its own superclass. `class_names` are the ids by default.

    Raises InputError naming a class under none of the ancestors, or under two of which neither is a kind of the other.
    """
    if (ancestors is None) == (depth is None):
        raise InputError("expected either the ancestors to group by, or a depth")
    if isinstance(hypernyms, (str, Path)):
        parents = _read(hypernyms)
    else:
        parents = {child: (one,) if isinstance(one, str) else tuple(one) for child, one in hypernyms.items()}
    _check_known(wnids, parents)
    if depth is not None:
        if depth < 0:
            raise InputError(f"depth: expected 0 (the root) or more, got {depth}")
        homes = [_at_depth(wnid, parents, depth) for wnid in wnids]
    else:
        assert ancestors is not None, "one of the two is given"
        homes = [_ancestor(wnid, parents, tuple(ancestors)) for wnid in wnids]
    names = ancestors if isinstance(ancestors, Mapping) else {}
    kept = tuple(dict.fromkeys(homes))
    return Hierarchy(
        class_names=tuple(wnids if class_names is None else class_names),
        superclass=tuple(kept.index(home) for home in homes),
        names=tuple(names.get(home, home) for home in kept),
        method="wordnet",
    )


def _read(path: str | Path) -> dict[str, tuple[str, ...]]:
    parents: dict[str, tuple[str, ...]] = {}
    try:
        lines = existing_file(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file (UTF-8 expected)") from None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words and len(words) != 2:
            position = Position(path=str(path), line=number, column=1, text=line)
            raise InputError(position.point(f"expected 'child parent', got {len(words)} words"))
        if words:
            parents[words[0]] = (*parents.get(words[0], ()), words[1])
    return parents


def _check_known(wnids: Sequence[str], parents: Mapping[str, tuple[str, ...]]) -> None:
    above = {parent for several in parents.values() for parent in several}
    unknown = [wnid for wnid in wnids if wnid not in parents]
    if len(unknown) == len(wnids) and all(wnid in above for wnid in wnids):
        raise InputError(
            "none of the classes has a hypernym, but all are hypernyms: the pairs may be in the wrong order",
            hint="expected the child first, then its parent",
        )
    for wnid in unknown:
        if wnid not in above:
            raise InputError(f"class {wnid!r} is not among the hypernyms", hint=suggest(wnid, parents))


def _above(wnid: str, parents: Mapping[str, tuple[str, ...]]) -> set[str]:
    """All hypernyms of `wnid`, direct and indirect, and itself."""
    found, waiting = {wnid}, [wnid]
    while waiting:
        new = [parent for parent in parents.get(waiting.pop(), ()) if parent not in found]
        found.update(new)
        waiting += new
    return found


def _ancestor(wnid: str, parents: Mapping[str, tuple[str, ...]], ancestors: tuple[str, ...]) -> str:
    above = _above(wnid, parents)
    found = [item for item in ancestors if item in above]
    # The more specific ones: those that are not above another one that was found.
    special = [item for item in found if not any(item in _above(o, parents) for o in found if o != item)]
    if len(special) == 1:
        return special[0]
    if not found:
        raise InputError(f"class {wnid!r} is under none of the ancestors {', '.join(ancestors)}")
    raise InputError(
        f"class {wnid!r} is under {' and '.join(special or found)}, and neither is a kind of the other",
        hint="omit one of them, or give the nodes below them",
    )


def _at_depth(wnid: str, parents: Mapping[str, tuple[str, ...]], depth: int) -> str:
    path = [wnid]
    while several := parents.get(path[-1]):
        if several[0] in path:
            raise InputError(f"the hypernyms of {wnid!r} form a circle at {several[0]!r}")
        path.append(several[0])
    return path[max(len(path) - 1 - depth, 0)]

"""The stage `report`: its verdict and the figures that it drew, as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from surgery.store.values import Group, Variable


def summary_group(
    lines: Sequence[str], figures: Sequence[str], *, provenance: Mapping[str, str], name: str = "report"
) -> Group:
    """The verdict line by line, and the names of the figures in the run folder; what there is none of is left out."""
    return Group(name=name, kind="report", variables=(*_verdict(lines), *_files(figures)), provenance=provenance)


def _verdict(lines: Sequence[str]) -> tuple[Variable, ...]:
    if not lines:
        return ()
    texts = np.array(list(lines), dtype=object)
    return (Variable(name="verdict", data=texts, dimensions=("line",), long_name="what was found, in words"),)


def _files(figures: Sequence[str]) -> tuple[Variable, ...]:
    if not figures:
        return ()
    said = "file of a figure, from the run folder on"
    return (
        Variable(name="figure", data=np.array(list(figures), dtype=object), dimensions=("number",), long_name=said),
    )

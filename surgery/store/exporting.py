"""Groups in other formats: CSV tables, NumPy archives and plain values."""

from __future__ import annotations

import csv
import io
import itertools
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from surgery.errors import InputError
from surgery.files import check_writable
from surgery.store.failures import write_errors
from surgery.store.values import Group, Variable


def csv_text(group: Group, name: str) -> str:
    """The variable `name` as CSV: a matrix as a table with labels, any other array as a row for each entry."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(csv_rows(group, name))
    return text.getvalue()


def csv_rows(group: Group, name: str) -> Iterator[Sequence[Any]]:
    """The rows of `csv_text`, starting with the heading; dimensions without labels are numbered from 0."""
    variable = variable_of(group, name)
    known = {item.name: np.asarray(item.values).tolist() for item in group.coordinates}
    sizes = zip(variable.dimensions, variable.data.shape, strict=True)
    labels = [known[dimension] if dimension in known else list(range(size)) for dimension, size in sizes]
    if variable.data.ndim == 2:
        rows, columns = variable.dimensions
        yield [f"{rows}/{columns}", *labels[1]]
        for label, row in zip(labels[0], variable.data, strict=True):
            yield [label, *(_shortest(entry) for entry in row)]
    else:
        yield [*variable.dimensions, variable.name]
        for places, entry in zip(itertools.product(*labels), variable.data.flat, strict=True):
            yield [*places, _shortest(entry)]


def write_csv(folder: str | Path, groups: Iterable[Group]) -> list[str]:
    """Write a file `GROUP.VARIABLE.csv` for each variable into a new folder, and return their names.

    If this fails, there is no folder. Raises InputError if `folder` exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: expected a new folder, but it exists already", hint="choose another name")
    check_writable(folder)
    draft = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    names = []
    try:
        with write_errors(folder):
            draft.mkdir()
            for group in groups:
                for item in group.variables:
                    names.append(f"{group.name}.{item.name}.csv")
                    with (draft / names[-1]).open("w", encoding="utf-8", newline="") as stream:
                        csv.writer(stream, lineterminator="\n").writerows(csv_rows(group, item.name))
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return names


def write_npz(path: str | Path, groups: Iterable[Group]) -> None:
    """Write variables and coordinates as `GROUP/NAME` into one compressed NumPy archive."""
    path = Path(path)
    check_writable(path)
    arrays: dict[str, np.ndarray] = {}
    for group in groups:
        arrays |= {f"{group.name}/{item.name}": np.asarray(item.values) for item in group.coordinates}
        arrays |= {f"{group.name}/{item.name}": item.data for item in group.variables}
    draft = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        with write_errors(path):
            with draft.open("xb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def group_dict(group: Group, *, limit: int | None = None) -> dict[str, Any]:
    """Plain values of everything in `group`; `values` is None for variables with more entries than `limit`."""
    return {
        "name": group.name,
        "kind": group.kind,
        "attributes": dict(group.attributes),
        "coordinates": {item.name: np.asarray(item.values).tolist() for item in group.coordinates},
        "variables": {item.name: variable_dict(item, limit=limit) for item in group.variables},
        "provenance": dict(group.provenance),
    }


def variable_dict(variable: Variable, *, limit: int | None = None) -> dict[str, Any]:
    """Plain values of one variable."""
    data = variable.data
    return {
        "dimensions": list(variable.dimensions),
        "shape": list(data.shape),
        "dtype": str(data.dtype),
        "long_name": variable.long_name,
        "units": variable.units,
        "comment": variable.comment or None,
        "flag_meanings": variable.flag_meanings and list(variable.flag_meanings),
        "values": data.tolist() if limit is None or data.size <= limit else None,
    }


def variable_of(group: Group, name: str) -> Variable:
    """The variable `name` of `group`; raises InputError, naming its variables, if there is none."""
    for item in group.variables:
        if item.name == name:
            return item
    known = ", ".join(item.name for item in group.variables)
    raise InputError(f"group {group.name!r}: there is no variable {name!r}", hint=f"it has: {known or 'no variables'}")


def _shortest(entry: Any) -> Any:
    """The shortest text that is this number in its own precision: 0.1 for a float32, not 0.10000000149011612."""
    return str(entry) if isinstance(entry, np.floating) else entry

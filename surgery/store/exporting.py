"""Groups as CSV tables, NumPy archives and plain values."""

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
from surgery.store.failures import explained
from surgery.store.values import Group, Variable


def csv_text(group: Group, name: str) -> str:
    """The variable `name` as CSV: a matrix as a table with labels, anything else as a row for each entry."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(csv_rows(group, name))
    return text.getvalue()


def csv_rows(group: Group, name: str) -> Iterator[Sequence[Any]]:
    """The rows of `csv_text`, the heading first."""
    variable = variable_of(group, name)
    labels = [_labels(group, dimension, size) for dimension, size in _axes(variable)]
    if variable.data.ndim == 2:
        rows, columns = variable.dimensions
        yield [f"{rows}/{columns}", *labels[1]]
        for label, row in zip(labels[0], variable.data, strict=True):
            yield [label, *_plain(row)]
        return
    yield [*variable.dimensions, variable.name]
    for places, value in zip(itertools.product(*labels), _entries(variable.data), strict=True):
        yield [*places, value]


def write_csv(folder: str | Path, groups: Iterable[Group]) -> list[str]:
    """Write a file `GROUP.VARIABLE.csv` for each variable into a new folder, and return their names.

    The folder is there with all its files or not at all; raises InputError where there is something of its name.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already", hint="choose a new folder")
    check_writable(folder)
    draft = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        with explained(folder):
            draft.mkdir()
            names = [_write_table(draft, group, item.name) for group in groups for item in group.variables]
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return names


def write_npz(path: str | Path, groups: Iterable[Group]) -> None:
    """Write variables and coordinates as `GROUP/NAME` into one compressed NumPy archive."""
    path = Path(path)
    check_writable(path)
    arrays = {f"{group.name}/{name}": values for group in groups for name, values in _arrays(group)}
    draft = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        with explained(path):
            with draft.open("xb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def group_dict(group: Group, *, limit: int | None = None) -> dict[str, Any]:
    """Plain values of everything in `group`; `values` is None where a variable has more entries than `limit`."""
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
    """The variable `name` of `group`; raises InputError with those that there are."""
    for item in group.variables:
        if item.name == name:
            return item
    known = ", ".join(item.name for item in group.variables)
    raise InputError(f"group {group.name!r}: there is no variable {name!r}", hint=f"there are: {known or 'none'}")


def _write_table(folder: Path, group: Group, name: str) -> str:
    target = folder / f"{group.name}.{name}.csv"
    with target.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(csv_rows(group, name))
    return target.name


def _arrays(group: Group) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((item.name, np.asarray(item.values)) for item in group.coordinates)
    yield from ((item.name, item.data) for item in group.variables)


def _axes(variable: Variable) -> Iterator[tuple[str, int]]:
    return zip(variable.dimensions, variable.data.shape, strict=True)


def _labels(group: Group, dimension: str, size: int) -> list[Any]:
    """The coordinate of a dimension, or 0, 1, 2, ..."""
    found = [np.asarray(item.values).tolist() for item in group.coordinates if item.name == dimension]
    return found[0] if found else list(range(size))


def _entries(array: np.ndarray) -> Iterator[Any]:
    for entry in array.flat:
        yield _number(entry)


def _plain(row: np.ndarray) -> list[Any]:
    return [_number(entry) for entry in row]


def _number(entry: Any) -> Any:
    """The shortest text that is this number in its own precision: 0.1 and not 0.10000000149011612."""
    return str(entry) if isinstance(entry, np.floating) else entry

"""Reading a store: what is in it, and its groups as values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from surgery.errors import suggest
from surgery.files import existing_file
from surgery.store import layout
from surgery.store.failures import StoreError, reading
from surgery.store.naming import PROVENANCE
from surgery.store.values import Coordinate, Group, Variable

RESULTS = "results.h5"
"""The store of a run folder."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a group holds, without its numbers. `size`: bytes on the disk; `written`: UTC."""

    name: str
    kind: str
    written: str
    size: int
    shapes: dict[str, tuple[int, ...]]
    dimensions: dict[str, tuple[str, ...]]


def store_path(path: str | Path) -> Path:
    """The file that `path` means: itself, or `results.h5` where it is a folder."""
    path = Path(path)
    return path / RESULTS if path.is_dir() else path


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """Open a store for reading, or raise StoreError where it is none, is damaged, or comes from a newer surgery."""
    path = existing_file(store_path(path))
    # HDF5's own locks are left as they are: it does not open a file twice in one process with different ones.
    with reading(path), h5py.File(path, "r") as file:
        check_schema(path, file)
        yield file


def check_schema(path: Path, file: h5py.File) -> None:
    """Raise StoreError unless the store, and every group of it, has a layout that this version knows."""
    if "surgery_schema" not in file.attrs:
        raise StoreError(f"{path}: an HDF5 file, but not a store of surgery", hint="h5dump -n shows what is in it")
    for item in (file, *_groups(file)):
        found = int(item.attrs["surgery_schema"])  # pyright: ignore[reportArgumentType]
        if found > layout.SCHEMA:
            where = f"group {_base(item)!r} has" if item.name != "/" else "it has"
            raise StoreError(
                f"{path}: written by a newer surgery: {where} layout {found}, this version knows up to {layout.SCHEMA}",
                hint="pip install --upgrade model-surgery; h5py, netCDF4 and xarray open the file as it is",
            )


def list_groups(path: str | Path) -> tuple[Summary, ...]:
    """Return what is in the store at `path`, a file or a run folder, in the order of writing."""
    with opened(path) as file:
        return tuple(_summary(group) for group in _groups(file))


def read_group(path: str | Path, name: str) -> Group:
    """Return the group `name` of the store at `path` as it was written; raises StoreError."""
    with opened(path) as file:
        known = {_base(group): group for group in _groups(file)}
        if name not in known:
            hint = suggest(name, known) or f"there are: {', '.join(known) or 'none'}"
            raise StoreError(f"{store_path(path)}: there is no group {name!r}", hint=hint)
        return _group(known[name])


def read_provenances(path: str | Path) -> dict[str, dict[str, str]]:
    """Return how each group of the store at `path` came about, by its name, without reading its numbers."""
    with opened(path) as file:
        return {_base(group): _provenance(group) for group in _groups(file)}


def _groups(file: h5py.File) -> list[h5py.Group]:
    """Groups of ours; what others may have put beside them is theirs."""
    return [item for item in file.values() if isinstance(item, h5py.Group) and "surgery_schema" in item.attrs]


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    return [item for item in group.values() if isinstance(item, h5py.Dataset)]


def _summary(group: h5py.Group) -> Summary:
    variables = [item for item in _datasets(group) if not item.is_scale]
    return Summary(
        name=_base(group),
        kind=str(group.attrs["kind"]),
        written=str(group.attrs["written"]),
        size=sum(item.id.get_storage_size() for item in _datasets(group)),
        shapes={_base(item): item.shape for item in variables},
        dimensions={_base(item): _dimensions(item) for item in variables},
    )


def _group(group: h5py.Group) -> Group:
    datasets = _datasets(group)
    layout_own = {"surgery_schema", "kind", "written"}
    return Group(
        name=_base(group),
        kind=str(group.attrs["kind"]),
        variables=tuple(_variable(item) for item in datasets if not item.is_scale),
        coordinates=tuple(_coordinate(item) for item in datasets if item.is_scale and not _unlabelled(item)),
        attributes={name: _plain(value) for name, value in group.attrs.items() if name not in layout_own},
        provenance=_provenance(group),
    )


def _provenance(group: h5py.Group) -> dict[str, str]:
    return {name: item.asstr()[()] for name, item in group[PROVENANCE].items()}  # pyright: ignore


def _coordinate(item: h5py.Dataset) -> Coordinate:
    attributes = item.attrs
    return Coordinate(
        name=_base(item),
        values=_array(item),
        long_name=str(attributes["long_name"]),
        units=str(attributes.get("units", "1")),
    )


def _variable(item: h5py.Dataset) -> Variable:
    attributes = item.attrs
    words = attributes.get("flag_meanings")
    return Variable(
        name=_base(item),
        data=_array(item),
        dimensions=_dimensions(item),
        long_name=str(attributes["long_name"]),
        units=str(attributes.get("units", "1")),
        flag_meanings=None if words is None else tuple(str(words).split(" ")),
        comment=str(attributes.get("comment", "")),
    )


def _dimensions(item: h5py.Dataset) -> tuple[str, ...]:
    return tuple(_base(dimension[0]) for dimension in item.dims)


def _unlabelled(item: h5py.Dataset) -> bool:
    return bytes(item.attrs["NAME"]).startswith(layout.WITHOUT_COORDINATE.encode())  # pyright: ignore


def _array(item: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(item.dtype) is None:
        return np.asarray(item[()])
    return np.asarray(item.asstr()[()], dtype=np.str_)


def _base(item: Any) -> str:
    return item.name.rsplit("/", 1)[-1]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

"""Reading a store: a list of its groups, groups as values, and the whole store as an xarray DataTree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from surgery.errors import InputError, suggest
from surgery.files import existing_file
from surgery.store import layout
from surgery.store.failures import StoreError, read_errors
from surgery.store.naming import PROVENANCE
from surgery.store.values import Coordinate, Group, Variable

if TYPE_CHECKING:
    import xarray

RESULTS = "results.h5"
"""The name of the store in a run folder."""

LAZY_BYTES = 64 << 20
"""`open_tree` reads variables above this size when they are first used."""


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """The names and shapes of a group, without its numbers. `size`: bytes on the disk; `written`: UTC."""

    name: str
    kind: str
    written: str
    size: int
    shapes: dict[str, tuple[int, ...]]
    dimensions: dict[str, tuple[str, ...]]


def store_path(path: str | Path) -> Path:
    """The file that `path` refers to: itself, or `results.h5` in it if it is a folder."""
    path = Path(path)
    return path / RESULTS if path.is_dir() else path


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """Open a store for reading; raises StoreError for other or damaged files, and for the layout of a later version."""
    path = existing_file(store_path(path))
    # HDF5's own locking stays at its default: it refuses to open a file twice in one process with different settings.
    with read_errors(path), h5py.File(path, "r") as file:
        if "surgery_schema" not in file.attrs:
            raise StoreError(
                f"{path}: expected a store of surgery, got another HDF5 file", hint="h5dump -n lists its content"
            )
        for item in (file, *_groups(file)):
            found = int(item.attrs["surgery_schema"])  # pyright: ignore[reportArgumentType]
            if found > layout.SCHEMA:
                where = "it" if item.name == "/" else f"group {_base(item)!r}"
                raise StoreError(
                    f"{path}: written by a newer surgery: {where} has layout {found}, "
                    f"but this version knows layouts up to {layout.SCHEMA}",
                    hint="pip install --upgrade model-surgery; h5py, netCDF4 and xarray can read the file without it",
                )
        yield file


def list_groups(path: str | Path) -> tuple[GroupSummary, ...]:
    """Return a summary of each group of the store at `path`, a file or a run folder, in the order of writing."""
    found = []
    with opened(path) as file:
        for group in _groups(file):
            variables = [item for item in _datasets(group) if not item.is_scale]
            summary = GroupSummary(
                name=_base(group),
                kind=str(group.attrs["kind"]),
                written=str(group.attrs["written"]),
                size=sum(item.id.get_storage_size() for item in _datasets(group)),
                shapes={_base(item): item.shape for item in variables},
                dimensions={_base(item): _dimensions(item) for item in variables},
            )
            found.append(summary)
    return tuple(found)


def read_group(path: str | Path, name: str) -> Group:
    """Return the group `name` of the store at `path` exactly as it was written; raises StoreError."""
    with opened(path) as file:
        known = {_base(group): group for group in _groups(file)}
        if name not in known:
            hint = suggest(name, known) or f"it has: {', '.join(known) or 'no groups'}"
            raise StoreError(f"{store_path(path)}: there is no group {name!r}", hint=hint)
        group = known[name]
        # Scales without labels only give an axis its name.
        mark = layout.WITHOUT_COORDINATE.encode()
        scales = [item for item in _datasets(group) if item.is_scale]
        labels = [item for item in scales if not bytes(item.attrs["NAME"]).startswith(mark)]  # pyright: ignore
        of_layout = {"surgery_schema", "kind", "written"}
        return Group(
            name=name,
            kind=str(group.attrs["kind"]),
            variables=tuple(_variable(item) for item in _datasets(group) if not item.is_scale),
            coordinates=tuple(
                Coordinate(
                    name=_base(item),
                    values=_array(item),
                    long_name=str(item.attrs["long_name"]),
                    units=str(item.attrs.get("units", "1")),
                )
                for item in labels
            ),
            attributes={
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in group.attrs.items()
                if key not in of_layout
            },
            provenance=_provenance(group),
        )


def read_provenances(path: str | Path) -> dict[str, dict[str, str]]:
    """Return the provenance of each group of the store at `path`, by the group's name, without reading its numbers."""
    with opened(path) as file:
        return {_base(group): _provenance(group) for group in _groups(file)}


def open_tree(path: str | Path) -> xarray.DataTree:
    """Open the store at `path`, a file or a run folder, as a tree with a node for each group.

    Class names are coordinates: `load("run")["linear"].correlation.sel({"class": "cat", "class_other": "dog"})`.
    Variables up to 64 MiB are read at once; larger ones, such as the weight of a thousand classes, when they are first
    used. Until then the file stays open; replacing the store meanwhile does no harm, and `close()` closes the file.

    Raises StoreError if the store cannot be read, InputError if xarray is not installed.
    """
    try:
        import h5netcdf  # noqa: F401
        import xarray
    except ImportError as error:
        raise InputError(
            f"xarray and h5netcdf are needed to load a store; {error.name} is not installed",
            hint="pip install 'model-surgery[analysis]'",
        ) from None
    path = existing_file(store_path(path))
    with opened(path):  # its error messages are clearer than those of xarray
        pass
    with read_errors(path):
        # Without decoding, numbers are exactly those that were written.
        tree = xarray.open_datatree(path, engine="h5netcdf", decode_cf=False)
        variables = [item for node in tree.subtree for item in node.to_dataset(inherit=False).variables.values()]
        for item in variables:
            if item.nbytes <= LAZY_BYTES:
                item.load()
        if all(item.nbytes <= LAZY_BYTES for item in variables):
            tree.close()
        return tree


def _groups(file: h5py.File) -> list[h5py.Group]:
    """The groups that surgery wrote; other programs may have added their own."""
    return [item for item in file.values() if isinstance(item, h5py.Group) and "surgery_schema" in item.attrs]


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    return [item for item in group.values() if isinstance(item, h5py.Dataset)]


def _provenance(group: h5py.Group) -> dict[str, str]:
    return {name: item.asstr()[()] for name, item in group[PROVENANCE].items()}  # pyright: ignore


def _variable(item: h5py.Dataset) -> Variable:
    words = item.attrs.get("flag_meanings")
    return Variable(
        name=_base(item),
        data=_array(item),
        dimensions=_dimensions(item),
        long_name=str(item.attrs["long_name"]),
        units=str(item.attrs.get("units", "1")),
        flag_meanings=None if words is None else tuple(str(words).split(" ")),
        comment=str(item.attrs.get("comment", "")),
    )


def _dimensions(item: h5py.Dataset) -> tuple[str, ...]:
    return tuple(_base(dimension[0]) for dimension in item.dims)


def _array(item: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(item.dtype) is None:
        return np.asarray(item[()])
    return np.asarray(item.asstr()[()], dtype=np.str_)


def _base(item: Any) -> str:
    return item.name.rsplit("/", 1)[-1]

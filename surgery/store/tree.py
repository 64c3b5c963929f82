"""A store as an xarray DataTree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery.files import existing_file
from surgery.store.failures import reading
from surgery.store.reading import opened, store_path

if TYPE_CHECKING:
    import xarray

LAZY_BYTES = 64 << 20
"""Variables above this size are read when they are first used."""


def open_tree(path: str | Path) -> xarray.DataTree:
    """Open the store at `path`, a file or a run folder, as a tree with a node for each group.

    Class names are coordinates: `load("run")["linear"].correlation.sel({"class": "cat", "class_other": "dog"})`.
    Variables up to 64 MiB are read at once; larger ones, as the weight of a thousand classes, when they are first used.
    Until then the file stays open; replacing the store meanwhile does no harm, and `close()` gives it back.

    Raises StoreError where the store cannot be read, InputError where xarray is not installed.
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
    with opened(path):  # says what is wrong better than xarray would
        pass
    with reading(path):
        # Nothing is decoded: numbers are what was written.
        tree = xarray.open_datatree(path, engine="h5netcdf", decode_cf=False)
        return tree if _read_small(tree) else _closed(tree)


def _read_small(tree: xarray.DataTree) -> bool:
    """Read what is small into memory; return whether something is left in the file."""
    left = False
    for node in tree.subtree:
        for variable in node.to_dataset(inherit=False).variables.values():
            if variable.nbytes <= LAZY_BYTES:
                variable.load()
            else:
                left = True
    return left


def _closed(tree: xarray.DataTree) -> xarray.DataTree:
    tree.close()
    return tree

"""The whole store as an xarray DataTree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery.files import existing_file
from surgery.store.failures import read_errors
from surgery.store.reading import GroupTexts, arrays_of, groups_of, opened, store_path

if TYPE_CHECKING:
    import xarray

LAZY_BYTES = 64 << 20
"""`open_tree` reads variables above this size when they are first used."""


def open_tree(path: str | Path) -> xarray.DataTree:
    """Open the store at `path`, a file or a run folder, as a tree with a node for each group.

    Class names are coordinates: `load("run")["linear"].correlation.sel({"class": "cat", "class_other": "dog"})`.
    Variables up to 64 MiB are read at once; larger ones, such as the weight of a thousand classes, when they are first
    used. Until then the file stays open; replacing the store meanwhile does no harm, and `close()` closes the file.

    The digests of all texts, and of the arrays that are read at once, are checked; HDF5's checksums protect the others.

    Raises StoreError if the store cannot be read or is damaged, InputError if xarray is not installed.
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
    with opened(path) as file:  # its error messages are clearer than those of xarray, which checks no digest
        for group in groups_of(file).values():
            for _ in arrays_of(group, GroupTexts.read(group), where=lambda item: item.nbytes <= LAZY_BYTES):
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

"""Copying groups from one HDF5 file into another, dimension scales included."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import h5py


def copy_groups(source: h5py.File, target: h5py.File, *, without: Collection[str]) -> None:
    """Copy everything but the groups `without` into `target`, in the order of creation.

    Deleting a group in a file would leave much of its room unused.
    """
    for name, value in source.attrs.items():
        if name not in target.attrs:
            target.attrs[name] = value
    for name in source:
        if name not in without:
            source.copy(name, target, name=name, expand_soft=False, expand_external=False)
    attached = _attached(source, without)
    for path in {*attached, *(scale for axes in attached.values() for _, scale in axes)}:
        _forget_references(target[path])
    for path, axes in attached.items():
        data: Any = target[path]
        for axis, scale in axes:
            data.dims[axis].attach_scale(target[scale])


def _attached(source: h5py.File, without: Collection[str]) -> dict[str, list[tuple[int, str]]]:
    """The axes and paths of the scales of every dataset that is copied, where the scale is copied as well."""
    found: dict[str, list[tuple[int, str]]] = {}

    def look(name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset) or _top(name) in without or item.is_scale:
            return
        axes = [(axis, str(scale.name)) for axis, dimension in enumerate(item.dims) for scale in dimension.values()]
        found[name] = [(axis, path) for axis, path in axes if _top(path.lstrip("/")) not in without]

    source.visititems(look)
    return {path: axes for path, axes in found.items() if axes}


def _forget_references(item: Any) -> None:
    """References are copied as addresses in the other file; left there, they would break the attaching."""
    for name in ("DIMENSION_LIST", "REFERENCE_LIST"):
        if name in item.attrs:
            del item.attrs[name]


def _top(path: str) -> str:
    return path.split("/", 1)[0]

"""Reading of HDF5 objects that may be damaged or hostile: types and sizes are checked before HDF5 converts anything.

HDF5 trusts what a file says about itself. An attribute of an unexpected type crashes the process while it is converted,
and a damaged shape takes all memory, so only what the layout writes is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5o, h5r, h5t  # pyright: ignore[reportAttributeAccessIssue] - compiled, without declarations

from surgery.store.failures import StoreError
from surgery.store.naming import MAX_ATTRIBUTE_BYTES, Scalar

MAX_RATIO = 1100
"""The largest ratio of an array to its bytes on the disk; gzip reaches 1032."""

_NUMBERS = {h5t.INTEGER, h5t.FLOAT}


def members(group: h5py.Group, kind: type[Any], *, without: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """The objects of a `kind` in `group` by name, except `without`, in the order of creation.

    Links to other places are not followed.
    """
    for name in group:
        if name not in without and isinstance(group.get(name, getlink=True), h5py.HardLink):
            item = group[name]
            if isinstance(item, kind):
                yield str(name), item


def scalar(item: h5py.HLObject, name: str) -> Scalar:
    """The attribute `name`: one text or number; raises StoreError for any other type, and KeyError if it is missing."""
    if name not in item.attrs:
        raise KeyError(name)
    attribute = h5a.open(item.id, name.encode())
    kind = attribute.get_type()
    words = kind.get_class() == h5t.STRING
    if attribute.shape != () or not (words or (kind.get_class() in _NUMBERS and kind.get_size() <= 8)):
        raise StoreError(f"{place(item)}: attribute {name!r} is not one text or number")
    if kind.get_size() > MAX_ATTRIBUTE_BYTES:
        raise StoreError(f"{place(item)}: attribute {name!r} is longer than 63 KiB")
    value: Any = item.attrs[name]
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def text(item: h5py.HLObject, name: str, default: str | None = None) -> str:
    """The attribute `name` as text; raises StoreError if it is a number, or is missing and has no `default`."""
    if name not in item.attrs and default is not None:
        return default
    if name not in item.attrs:
        raise StoreError(f"{place(item)}: attribute {name!r} is missing")
    value = scalar(item, name)
    if not isinstance(value, str):
        raise StoreError(f"{place(item)}: attribute {name!r} is not text")
    return value


def scale_name(item: h5py.Dataset) -> str | None:
    """The name of a dimension scale, or None for a dataset that is not a scale."""
    return text(item, "NAME", "") if text(item, "CLASS", "") == "DIMENSION_SCALE" else None


def address(item: h5py.HLObject) -> int:
    """The place of an object in the file, which references name."""
    return h5o.get_info(item.id).addr


def axes(item: h5py.Dataset) -> list[list[int]]:
    """The addresses of the scales of each axis of a dataset.

    HDF5's own functions for scales trust the attribute that refers to them, and crash if it is damaged. Its search for
    the name of an address fails if another group is damaged.
    """
    if item.ndim == 0 or "DIMENSION_LIST" not in item.attrs:
        return [[] for _ in item.shape]
    attribute = h5a.open(item.id, b"DIMENSION_LIST")
    kind = attribute.get_type()
    if kind.get_class() != h5t.VLEN or kind.get_super().get_class() != h5t.REFERENCE or attribute.shape != (item.ndim,):
        raise StoreError(f"{place(item)}: the names of its axes are damaged")
    lists: Any = item.attrs["DIMENSION_LIST"]
    found = [[h5r.dereference(reference, item.file.id) for reference in references] for references in lists]
    if not all(found for scales in found for found in scales):
        raise StoreError(f"{place(item)}: the names of its axes are damaged")
    return [[h5o.get_info(scale).addr for scale in scales] for scales in found]


def dimensions(item: h5py.Dataset) -> tuple[str, ...]:
    """The names of the axes of a variable: those of scales in its own group."""
    group: Any = item.parent
    known = {address(scale): name for name, scale in members(group, h5py.Dataset)}
    scales = axes(item)
    if not all(len(found) == 1 and found[0] in known for found in scales):
        raise StoreError(f"{place(item)}: the names of its axes are damaged")
    return tuple(known[found[0]] for found in scales)


def array(item: h5py.Dataset) -> np.ndarray:
    """The numbers or texts of a dataset; raises StoreError for those that lie in another file."""
    if item.external or item.is_virtual:
        raise StoreError(f"{place(item)}: refers to another file, which no store of surgery does")
    kind = item.id.get_type()
    stored = item.id.get_storage_size()
    if kind.get_class() == h5t.STRING:
        if not kind.is_variable_str() or item.size * kind.get_size() > stored:
            raise StoreError(f"{place(item)}: its texts are damaged")
        _check_lengths(item)
        return np.asarray(item.asstr()[()], dtype=np.str_)
    if kind.get_class() not in _NUMBERS or item.size * kind.get_size() > MAX_RATIO * stored:
        raise StoreError(f"{place(item)}: expected {item.shape} numbers, but the file holds {stored} bytes")
    return np.asarray(item[()])


_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""A text of variable length in a dataset: its length and its place in a global heap."""


def _check_lengths(item: h5py.Dataset) -> None:
    """Raise StoreError if a text claims to be longer than the file: HDF5 would reserve up to 4 GiB for it."""
    offset = item.id.get_offset()
    if offset is None or not hasattr(os, "pread"):  # another program has stored them in chunks; Windows
        return
    # From the file that HDF5 has open: another one may have its name by now.
    stream = item.file.id.get_vfd_handle()
    count = int(item.size or 0)
    content = os.pread(stream, count * _REFERENCE.itemsize, offset)
    lengths = np.frombuffer(content[: len(content) // _REFERENCE.itemsize * _REFERENCE.itemsize], _REFERENCE)["length"]
    if len(lengths) < count or lengths.max() > os.fstat(stream).st_size:
        raise StoreError(f"{place(item)}: its texts are damaged")


def place(item: h5py.HLObject) -> str:
    """The object as messages name it."""
    return f"{item.file.filename}: {str(item.name).lstrip('/') or 'the root'}"

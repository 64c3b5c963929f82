"""The layout of a group in HDF5, chosen so that h5py, netCDF4, h5netcdf, xarray and h5dump all read the same."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np

from surgery.store import guarded
from surgery.store.digests import DIGEST, array_digest, group_digest
from surgery.store.naming import PROVENANCE
from surgery.store.values import Coordinate, Group, Variable

SCHEMA = 1
"""Version of the layout; stores of a later version are refused."""

LIBVER = ("earliest", "v110")
"""HDF5 1.8 and later can read the file."""

CHUNK_BYTES = 1 << 20
WITHOUT_COORDINATE = "This is a netCDF dimension but not a netCDF variable."
"""How netCDF-4 marks the scale of a dimension without labels; the size follows, ten characters wide."""

_TEXT = h5py.string_dtype()


def empty_store(version: str) -> bytes:
    """The content of a store without groups; `version`: that of surgery."""
    # In memory: HDF5 truncates a file that it creates, which would release the space that is reserved for it.
    with h5py.File("store", "w", driver="core", backing_store=False, libver=LIBVER, track_order=True) as file:
        file.attrs["surgery_schema"] = np.int64(SCHEMA)
        file.attrs["surgery_version"] = version
        file.flush()
        return file.id.get_file_image()


def largest_size(group: Group) -> int:
    """An upper bound of the bytes that `group` takes in a file."""
    texts = [item.long_name for item in (*group.variables, *group.coordinates)]
    texts += [*map(str, group.attributes.values()), *group.provenance.values()]
    arrays = [item.data for item in group.variables] + [np.asarray(item.values) for item in group.coordinates]
    objects = len(arrays) + len(group.sizes) + len(group.attributes) + len(group.provenance)
    size = 64 * 1024 + 8 * 1024 * objects + 8 * sum(map(len, texts))
    for array in arrays:
        if array.dtype.kind == "U" or array.ndim == 0:
            size += array.nbytes + 64 * array.size
            continue
        chunk = chunk_shape(array.shape, array.dtype.itemsize)
        chunks = math.prod(-(-size // part) for size, part in zip(array.shape, chunk, strict=True))
        # Chunks at the border are stored whole; numbers that do not compress grow by less than a thousandth.
        size += chunks * (math.prod(chunk) * array.dtype.itemsize * 1001 // 1000 + 128)
    return size


def put_group(file: h5py.File, group: Group) -> None:
    """Write `group` into `file`, with its own coordinates.

    Coordinates at the root, shared by all groups, would be lost by `xarray.open_dataset(group=...)`.
    """
    # Without track_order, HDF5 lists variables and attributes in alphabetical order.
    target = file.create_group(group.name, track_order=True)
    target.attrs["surgery_schema"] = np.int64(SCHEMA)
    target.attrs["kind"] = group.kind
    written = datetime.now(UTC).isoformat(timespec="seconds")
    target.attrs["written"] = written
    for name, value in group.attributes.items():
        target.attrs[name] = value
    scales: dict[str, h5py.Dataset] = {}
    for item in group.coordinates:
        scales[item.name] = _put_array(target, item.name, np.asarray(item.values))
        scales[item.name].make_scale(item.name)
        _describe(scales[item.name], item)
    for name, size in group.sizes.items():
        if name not in scales:
            # xarray needs a scale on every axis of a variable or on none.
            scales[name] = target.create_dataset(name, shape=(size,), dtype=">f4", track_order=True)
            scales[name].make_scale(f"{WITHOUT_COORDINATE}{size:10d}")
    for item in group.variables:
        data = _put_array(target, item.name, item.data)
        for axis, name in enumerate(item.dimensions):
            data.dims[axis].attach_scale(scales[name])
        _describe(data, item)
        if item.flag_meanings is not None:
            data.attrs["flag_values"] = np.arange(len(item.flag_meanings), dtype=item.data.dtype)
            data.attrs["flag_meanings"] = " ".join(item.flag_meanings)
        if item.comment:
            data.attrs["comment"] = item.comment
    # Datasets, because an attribute holds at most 64 KiB and a recipe can be longer.
    notes = target.create_group(PROVENANCE, track_order=True)
    for name, text in group.provenance.items():
        # With track_order, HDF5 protects the description of a dataset by a checksum; a damaged size takes gigabytes.
        notes.create_dataset(name, data=text, dtype=_TEXT, track_order=True)
    digests = {item.name: array_digest(item) for item in (*group.coordinates, *group.variables)}
    for name, digest in digests.items():
        target[name].attrs[DIGEST] = digest
    target.attrs[DIGEST] = group_digest(
        name=group.name,
        kind=group.kind,
        written=written,
        attributes=group.attributes,
        provenance=group.provenance,
        arrays=digests,
    )


def _describe(data: h5py.Dataset, item: Coordinate | Variable) -> None:
    data.attrs["long_name"] = item.long_name
    if h5py.check_string_dtype(data.dtype) is None:  # names have no unit
        data.attrs["units"] = item.units


def _put_array(target: h5py.Group, name: str, array: np.ndarray) -> h5py.Dataset:
    if array.dtype.kind == "U":
        # No filters: the dataset holds references to texts, which are stored elsewhere in the file.
        return target.create_dataset(name, data=array.astype(object), dtype=_TEXT, track_order=True)
    if array.ndim == 0:
        return target.create_dataset(name, data=array, track_order=True)
    return target.create_dataset(
        name,
        data=array,
        track_order=True,
        chunks=chunk_shape(array.shape, array.dtype.itemsize),
        shuffle=True,
        compression="gzip",
        compression_opts=1,  # weights are close to noise: level 4 takes longer and saves almost nothing
        fletcher32=True,
    )


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The shape of chunks of at most about 1 MiB: whole along the last axes, split along the first ones."""
    chunk = list(shape)
    for axis in range(len(chunk)):
        rest = math.prod(chunk[axis + 1 :]) * itemsize
        chunk[axis] = max(1, min(chunk[axis], CHUNK_BYTES // rest))
        if chunk[axis] > 1:
            break
    return tuple(chunk)


def copy_groups(source: h5py.File, target: h5py.File, *, without: Collection[str]) -> None:
    """Copy everything except the groups `without` into `target`, in the order of creation.

    A new file, because deleting a group in place would leave much of its space unused.
    """
    for name, value in source.attrs.items():
        if name not in target.attrs:
            target.attrs[name] = value
    for name in source:
        if name not in without:
            source.copy(name, target, name=name, expand_soft=False, expand_external=False)

    # A dataset and its scales refer to each other by addresses. Copied addresses point into the old file, and would
    # make attach_scale fail: they are removed, and the scales attached again.
    places: dict[int, str] = {}
    scales: dict[str, list[list[int]]] = {}

    def collect(path: str, item: h5py.HLObject) -> None:
        place = guarded.address(item)
        if place in places:  # hard links of another program may form a circle
            return
        places[place] = path
        if isinstance(item, h5py.Dataset) and guarded.scale_name(item) is None:
            scales[path] = guarded.axes(item)
        if isinstance(item, h5py.Group):
            for name, member in guarded.members(item, h5py.HLObject):
                collect(f"{path}/{name}", member)

    for name, item in guarded.members(source, h5py.HLObject, without=without):  # which may be damaged
        collect(name, item)
    attached: dict[str, list[tuple[int, str]]] = {}
    for path, axes in scales.items():
        found = [(axis, places[place]) for axis, several in enumerate(axes) for place in several if place in places]
        if found:
            attached[path] = found
    for path in {*attached, *(scale for axes in attached.values() for _, scale in axes)}:
        for name in ("DIMENSION_LIST", "REFERENCE_LIST"):
            if name in target[path].attrs:
                del target[path].attrs[name]
    for path, axes in attached.items():
        data: Any = target[path]
        for axis, scale in axes:
            data.dims[axis].attach_scale(target[scale])

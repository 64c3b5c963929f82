"""How a group lies in HDF5, so that h5py, netCDF4, h5netcdf, xarray and h5dump all read the same."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import h5py
import numpy as np

from surgery.store.naming import PROVENANCE
from surgery.store.values import Coordinate, Group, Variable

SCHEMA = 1
"""Version of the layout; a store of a later one is refused."""

LIBVER = ("earliest", "v110")
"""Readable by HDF5 1.8 and later."""

CHUNK_BYTES = 1 << 20
WITHOUT_COORDINATE = "This is a netCDF dimension but not a netCDF variable."
"""How netCDF marks the scale of a dimension without labels; the size follows, ten characters wide."""

_TEXT = h5py.string_dtype()


def empty_store(version: str) -> bytes:
    """The content of a store without groups, which says what it is."""
    # In memory: HDF5 truncates a file that it creates, which would undo what was reserved for it.
    with h5py.File("store", "w", driver="core", backing_store=False, libver=LIBVER, track_order=True) as file:
        file.attrs["surgery_schema"] = np.int64(SCHEMA)
        file.attrs["surgery_version"] = version
        file.flush()
        return file.id.get_file_image()


def largest_size(group: Group) -> int:
    """More bytes than `group` can take in a file."""
    texts = [item.long_name for item in (*group.variables, *group.coordinates)]
    texts += [*map(str, group.attributes.values()), *group.provenance.values()]
    arrays = [item.data for item in group.variables] + [np.asarray(item.values) for item in group.coordinates]
    objects = len(arrays) + len(group.sizes) + len(group.attributes) + len(group.provenance)
    return 64 * 1024 + 8 * 1024 * objects + 8 * sum(map(len, texts)) + sum(map(_largest_array, arrays))


def _largest_array(array: np.ndarray) -> int:
    if array.dtype.kind == "U" or array.ndim == 0:
        return array.nbytes + 64 * array.size
    chunk = chunk_shape(array.shape, array.dtype.itemsize)
    chunks = math.prod(-(-size // part) for size, part in zip(array.shape, chunk, strict=True))
    # Chunks at the border are stored whole; what does not compress grows by less than a thousandth.
    return chunks * (math.prod(chunk) * array.dtype.itemsize * 1001 // 1000 + 128)


def put_group(file: h5py.File, group: Group) -> None:
    """Write `group` with its own copies of everything it needs."""
    target = file.create_group(group.name, track_order=True)
    target.attrs["surgery_schema"] = np.int64(SCHEMA)
    target.attrs["kind"] = group.kind
    target.attrs["written"] = datetime.now(UTC).isoformat(timespec="seconds")
    for name, value in group.attributes.items():
        target.attrs[name] = value
    scales = {item.name: _put_coordinate(target, item) for item in group.coordinates}
    for name, size in group.sizes.items():
        if name not in scales:
            scales[name] = _put_dimension(target, name, size)
    for variable in group.variables:
        _put_variable(target, variable, scales)
    notes = target.create_group(PROVENANCE, track_order=True)
    for name, text in group.provenance.items():
        notes.create_dataset(name, data=text, dtype=_TEXT)


def _put_coordinate(target: h5py.Group, item: Coordinate) -> h5py.Dataset:
    data = _put_array(target, item.name, np.asarray(item.values))
    data.make_scale(item.name)
    _describe(data, item)
    return data


def _put_dimension(target: h5py.Group, name: str, size: int) -> h5py.Dataset:
    """A scale without labels; without any scale an axis would be anonymous to xarray."""
    data = target.create_dataset(name, shape=(size,), dtype=">f4", track_order=True)
    data.make_scale(f"{WITHOUT_COORDINATE}{size:10d}")
    return data


def _put_variable(target: h5py.Group, item: Variable, scales: dict[str, h5py.Dataset]) -> None:
    data = _put_array(target, item.name, item.data)
    for axis, name in enumerate(item.dimensions):
        data.dims[axis].attach_scale(scales[name])
    _describe(data, item)
    if item.flag_meanings is not None:
        data.attrs["flag_values"] = np.arange(len(item.flag_meanings), dtype=item.data.dtype)
        data.attrs["flag_meanings"] = " ".join(item.flag_meanings)
    if item.comment:
        data.attrs["comment"] = item.comment


def _describe(data: h5py.Dataset, item: Coordinate | Variable) -> None:
    data.attrs["long_name"] = item.long_name
    if h5py.check_string_dtype(data.dtype) is None:  # names have no unit
        data.attrs["units"] = item.units


def _put_array(target: h5py.Group, name: str, array: np.ndarray) -> h5py.Dataset:
    if array.dtype.kind == "U":
        # Filters would see references to the text and not the text.
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
        compression_opts=1,  # weights are noise: level 4 takes longer and saves next to nothing
        fletcher32=True,
    )


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A chunk of at most about 1 MiB: whole along the last axes, cut along the first ones."""
    chunk = list(shape)
    for axis in range(len(chunk)):
        rest = math.prod(chunk[axis + 1 :]) * itemsize
        chunk[axis] = max(1, min(chunk[axis], CHUNK_BYTES // rest))
        if chunk[axis] > 1:
            break
    return tuple(chunk)

"""Reading a store: a list of its groups, and groups as values."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from surgery.errors import suggest
from surgery.files import existing_file
from surgery.store import guarded, layout
from surgery.store.digests import DIGEST, array_digest, group_digest
from surgery.store.failures import StoreError, read_errors
from surgery.store.heaps import check_heaps
from surgery.store.naming import PROVENANCE, Scalar
from surgery.store.values import Coordinate, Group, Variable

RESULTS = "results.h5"
"""The name of the store in a run folder."""


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
    return path / RESULTS if os.path.isdir(path) else path  # noqa: PTH112 - never raises, for a name that is too long


@contextmanager
def opened(path: str | Path, *, unchecked: Collection[str] = ()) -> Iterator[h5py.File]:
    """Open a store for reading; raises StoreError for other or damaged files, and for the layout of a later version.

    `unchecked`: groups that may be damaged, because they are not read.
    """
    path = existing_file(store_path(path))
    # HDF5's own locking stays at its default: it refuses to open a file twice in one process with different settings.
    check_heaps(path)
    with read_errors(path), h5py.File(path, "r") as file:
        if "surgery_schema" not in file.attrs:
            raise StoreError(
                f"{path}: expected a store of surgery, got another HDF5 file", hint="h5dump -n lists its content"
            )
        for item in (file, *groups_of(file, without=unchecked).values()):
            _check_layout(item)
        yield file


def _check_layout(item: h5py.Group) -> None:
    found = guarded.scalar(item, "surgery_schema")
    if not isinstance(found, int):
        raise StoreError(f"{guarded.place(item)}: attribute 'surgery_schema' is not a whole number")
    if found > layout.SCHEMA:
        where = "it" if item.name == "/" else f"group {_base(item)!r}"
        raise StoreError(
            f"{item.file.filename}: written by a newer surgery: {where} has layout {found}, "
            f"but this version knows layouts up to {layout.SCHEMA}",
            hint="pip install --upgrade model-surgery; h5py, netCDF4 and xarray can read the file without it",
        )


def groups_of(file: h5py.File, *, without: Collection[str] = ()) -> dict[str, h5py.Group]:
    """The groups that surgery wrote, by name, except `without`; other programs may have added their own."""
    found = guarded.members(file, h5py.Group, without=without)
    return {name: group for name, group in found if "surgery_schema" in group.attrs}


def is_text(item: h5py.Dataset) -> bool:
    """Whether a dataset holds texts."""
    return h5py.check_string_dtype(item.dtype) is not None


def list_groups(path: str | Path) -> tuple[GroupSummary, ...]:
    """Return a summary of each group of the store at `path`, a file or a run folder, in the order of writing.

    Raises StoreError if the store cannot be read, or if the texts of a group are damaged.
    """
    found = []
    with opened(path) as file:
        for name, group in groups_of(file).items():
            texts = GroupTexts.read(group)
            datasets = dict(guarded.members(group, h5py.Dataset))
            variables = {key: item for key, item in datasets.items() if guarded.scale_name(item) is None}
            summary = GroupSummary(
                name=name,
                kind=texts.kind,
                written=texts.written,
                size=sum(item.id.get_storage_size() for item in datasets.values()),
                shapes={key: item.shape for key, item in variables.items()},
                dimensions={key: guarded.dimensions(item) for key, item in variables.items()},
            )
            found.append(summary)
    return tuple(found)


def read_group(path: str | Path, name: str) -> Group:
    """Return the group `name` of the store at `path` exactly as it was written.

    Raises StoreError if there is no such group, or if its content does not have its digest.
    """
    with opened(path) as file:
        known = groups_of(file)
        if name not in known:
            hint = suggest(name, known) or f"it has: {', '.join(known) or 'no groups'}"
            raise StoreError(f"{store_path(path)}: there is no group {name!r}", hint=hint)
        return group_of(known[name])


def group_of(group: h5py.Group) -> Group:
    """The content of an HDF5 group; raises StoreError if it does not have its digest."""
    texts = GroupTexts.read(group)
    arrays = tuple(arrays_of(group, texts))
    return Group(
        name=texts.name,
        kind=texts.kind,
        variables=tuple(item for item in arrays if isinstance(item, Variable)),
        coordinates=tuple(item for item in arrays if isinstance(item, Coordinate)),
        attributes=texts.attributes,
        provenance=texts.provenance,
    )


def arrays_of(
    group: h5py.Group, texts: GroupTexts, *, where: Callable[[h5py.Dataset], bool] = lambda item: True
) -> Iterator[Variable | Coordinate]:
    """The variables and coordinates of `group`, or those for which `where` is true.

    Raises StoreError if one does not have its digest.
    """
    for name, item in guarded.members(group, h5py.Dataset):
        scale = guarded.scale_name(item)
        # Scales without labels only give an axis its name.
        if (scale or "").startswith(layout.WITHOUT_COORDINATE) or not where(item):
            continue
        found = _variable(item) if scale is None else _coordinate(item)
        if texts.arrays is not None and array_digest(found) != texts.arrays[name]:
            raise damaged(item)
        yield found


def read_provenances(path: str | Path) -> dict[str, dict[str, str]]:
    """Return the provenance of each group of the store at `path`, by the group's name, without reading its numbers.

    Raises StoreError if the store cannot be read, or if the texts of a group are damaged.
    """
    with opened(path) as file:
        return {name: dict(GroupTexts.read(group).provenance) for name, group in groups_of(file).items()}


@dataclass(frozen=True, kw_only=True)
class GroupTexts:
    """All of a group except its arrays. `arrays`: their digests, by name; None in a store of an earlier version."""

    name: str
    kind: str
    written: str
    attributes: Mapping[str, Scalar]
    provenance: Mapping[str, str]
    arrays: Mapping[str, str] | None

    @classmethod
    def read(cls, group: h5py.Group) -> GroupTexts:
        """The texts of `group`; raises StoreError if they do not have the group's digest."""
        notes = dict(guarded.members(group, h5py.Group)).get(PROVENANCE)
        if notes is None:
            raise StoreError(f"{guarded.place(group)}: its provenance is missing")
        digests = {
            name: guarded.text(item, DIGEST)
            for name, item in guarded.members(group, h5py.Dataset)
            if DIGEST in item.attrs
        }
        texts = cls(
            name=_base(group),
            kind=guarded.text(group, "kind"),
            written=guarded.text(group, "written"),
            attributes={name: guarded.scalar(group, name) for name in group.attrs if name not in _OF_LAYOUT},
            provenance={name: str(guarded.array(item)) for name, item in guarded.members(notes, h5py.Dataset)},
            arrays=digests if digests or DIGEST in group.attrs else None,
        )
        # A group without a digest is of an earlier version, unless its arrays have digests.
        if texts.arrays is not None and texts.digest() != guarded.text(group, DIGEST, ""):
            raise damaged(group)
        return texts

    def digest(self) -> str:
        """The digest that the group should have."""
        return group_digest(
            name=self.name,
            kind=self.kind,
            written=self.written,
            attributes=self.attributes,
            provenance=self.provenance,
            arrays=self.arrays or {},
        )


_OF_LAYOUT = ("surgery_schema", "kind", "written", DIGEST)


def damaged(item: h5py.HLObject) -> StoreError:
    """The error for content that does not have its digest."""
    return StoreError(
        f"{guarded.place(item)}: damaged: its content does not have the digest that was written with it",
        hint="`surgery results check` lists damaged groups, and removes them on request so that their stages run again",
    )


def _variable(item: h5py.Dataset) -> Variable:
    words = guarded.text(item, "flag_meanings", "")
    return Variable(
        name=_base(item),
        data=guarded.array(item),
        dimensions=guarded.dimensions(item),
        long_name=guarded.text(item, "long_name"),
        units=guarded.text(item, "units", "1"),
        flag_meanings=tuple(words.split(" ")) if words else None,
        comment=guarded.text(item, "comment", ""),
    )


def _coordinate(item: h5py.Dataset) -> Coordinate:
    return Coordinate(
        name=_base(item),
        values=guarded.array(item),
        long_name=guarded.text(item, "long_name"),
        units=guarded.text(item, "units", "1"),
    )


def _base(item: h5py.HLObject) -> str:
    return str(item.name).rsplit("/", 1)[-1]

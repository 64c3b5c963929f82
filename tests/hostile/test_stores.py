"""Damaged and hostile stores: one clear message within seconds, whatever the bytes.

HDF5 may crash the process, so stores are opened in a process of their own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5a, h5s, h5t

from surgery.errors import InputError
from surgery.store import (
    Group,
    Variable,
    check_store,
    class_coordinates,
    list_groups,
    read_group,
    read_provenances,
    write_group,
)
from surgery.store.exporting import group_dict


def group(name: str = "linear") -> Group:
    """A group with everything that a group may have."""
    numbers = np.random.default_rng(0).normal(size=(3, 3))
    return Group(
        name=name,
        kind="linear",
        coordinates=class_coordinates(["plane", "cat", "dög"]),
        variables=(
            Variable(
                name="C", data=numbers, dimensions=("class", "class_other"), long_name="correlation", comment="of W"
            ),
            Variable(name="right", data=np.array([True, False]), dimensions=("image",), long_name="right"),
            Variable(name="score", data=np.float64(3.5), dimensions=(), long_name="score"),
        ),
        attributes={"model": "resnet18", "seed": 3},
        provenance={"recipe": "[recipe]\nname = 'größe'\n", "stage": '{"key": "0"}'},
    )


# What a file may say about itself


def attribute(place: str, name: str, kind: h5t.TypeID, shape: tuple[int, ...] = ()) -> Callable[[h5py.File], None]:
    """Replace an attribute by one of another type, filled with ones."""

    def change(file: h5py.File) -> None:
        item = file[place]
        if name in item.attrs:
            del item.attrs[name]
        space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        created = h5a.create(item.id, name.encode(), kind, space)
        if kind.get_class() not in (h5t.VLEN, h5t.REFERENCE, h5t.STRING):
            created.write(np.ones((*shape, kind.get_size()), dtype=np.uint8).view(f"V{kind.get_size()}"), mtype=kind)

    return change


def value(place: str, name: str, new: object) -> Callable[[h5py.File], None]:
    """Give an attribute another value."""
    return lambda file: file[place].attrs.__setitem__(name, new)


def without(place: str, name: str) -> Callable[[h5py.File], None]:
    """Remove an attribute."""
    return lambda file: file[place].attrs.__delitem__(name)


def labels(**options: object) -> Callable[[h5py.File], None]:
    """Add a dataset that claims to label a dimension."""

    def change(file: h5py.File) -> None:
        created = file.create_dataset("linear/more", **options)  # pyright: ignore[reportArgumentType]
        created.make_scale("more")
        created.attrs["long_name"] = "more labels"

    return change


def link(place: str, target: object) -> Callable[[h5py.File], None]:
    """Replace an object by a link or an array."""

    def change(file: h5py.File) -> None:
        del file[place]
        file[place] = target

    return change


def long_text(file: h5py.File) -> None:
    """Give a text a length of 4 GiB."""
    os.pwrite(file.id.get_vfd_handle(), b"\xff" * 4, file["linear/provenance/recipe"].id.get_offset())


def endless_heap(file: h5py.File) -> None:
    """Give the free space of a heap of texts a size of zero, at which HDF5 would loop for ever."""
    stream = file.id.get_vfd_handle()
    file.flush()
    start = os.pread(stream, os.fstat(stream).st_size, 0).index(b"GCOL")
    os.pwrite(stream, bytes(16), start + 16)


ENUMERATION = h5t.enum_create(h5t.STD_I32LE)
ENUMERATION.enum_insert(b"a", 1)
COMPOUND = h5t.create(h5t.COMPOUND, 16)
COMPOUND.insert(b"a", 0, h5t.STD_I64LE)
COMPOUND.insert(b"b", 8, h5t.STD_I64LE)
TEXTS = h5t.C_S1.copy()
TEXTS.set_size(h5t.VARIABLE)

CASES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "kind: lists of numbers": (attribute("linear", "kind", h5t.vlen_create(h5t.STD_I64LE)), "'kind' is not one text"),
    "kind: lists of lists of texts": (
        attribute("linear", "kind", h5t.vlen_create(h5t.vlen_create(TEXTS))),
        "'kind' is not one text",
    ),
    "kind: an enumeration": (attribute("linear", "kind", ENUMERATION), "'kind' is not one text"),
    "kind: a compound": (attribute("linear", "kind", COMPOUND), "'kind' is not one text"),
    "kind: a reference": (attribute("linear", "kind", h5t.STD_REF_OBJ), "'kind' is not one text"),
    "kind: a region": (attribute("linear", "kind", h5t.STD_REF_DSETREG), "'kind' is not one text"),
    "kind: opaque": (attribute("linear", "kind", h5t.create(h5t.OPAQUE, 8)), "'kind' is not one text"),
    "kind: bits": (attribute("linear", "kind", h5t.STD_B64LE), "'kind' is not one text"),
    "kind: 1000 texts": (attribute("linear", "kind", TEXTS, (1000,)), "'kind' is not one text"),
    "kind: an array type": (attribute("linear", "kind", h5t.array_create(h5t.STD_I8LE, (9,))), "'kind' is not one"),
    "kind: a number": (value("linear", "kind", 3), "'kind' is not text"),
    "kind: missing": (without("linear", "kind"), "'kind' is missing"),
    "kind: an illegal name": (value("linear", "kind", "../x"), "not a legal name"),
    "schema: text": (value("linear", "surgery_schema", "one"), "not a whole number"),
    "schema: numbers": (value("/", "surgery_schema", np.ones(3)), "not one text or number"),
    "attribute: numbers": (value("linear", "seed", np.ones(3)), "not one text or number"),
    "attribute: complex": (value("linear", "seed", 1j), "not one text or number"),
    "long_name: a compound": (attribute("linear/C", "long_name", COMPOUND), "'long_name' is not one text"),
    "long_name: missing": (without("linear/C", "long_name"), "'long_name' is missing"),
    "units: numbers": (value("linear/C", "units", np.ones(3)), "'units' is not one text"),
    "scale: lists": (attribute("linear/class", "NAME", h5t.vlen_create(TEXTS)), "'NAME' is not one text"),
    "scale: a number": (value("linear/class", "CLASS", 3), "'CLASS' is not text"),
    "axes: numbers": (value("linear/C", "DIMENSION_LIST", np.ones(2)), "names of its axes are damaged"),
    "axes: empty lists": (
        attribute("linear/C", "DIMENSION_LIST", h5t.vlen_create(h5t.STD_REF_OBJ), (2,)),
        "names of its axes are damaged",
    ),
    "axes: three for a matrix": (
        attribute("linear/C", "DIMENSION_LIST", h5t.vlen_create(h5t.STD_REF_OBJ), (3,)),
        "names of its axes are damaged",
    ),
    "flags: one word for two values": (value("linear/right", "flag_meanings", "false"), "integers from 0 to 0"),
    "flags: empty words": (value("linear/right", "flag_meanings", "a  b"), "without spaces"),
    "numbers: a compound": (labels(data=np.zeros(1, dtype=[("a", "f8")])), "expected (1,) numbers"),
    "numbers: 8 TB that are not stored": (
        labels(shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000)),
        "expected (1000000, 1000000) numbers, but the file holds 0 bytes",
    ),
    "numbers: of another file": (
        labels(shape=(16,), dtype="u1", external=[("/etc/passwd", 0, 16)]),
        "refers to another file",
    ),
    "texts: 10^9 that are not stored": (
        labels(shape=(10**9,), dtype=h5py.string_dtype(), chunks=(10**6,)),
        "texts are damaged",
    ),
    "texts: a length of 4 GiB": (long_text, "linear/provenance/recipe: its texts are damaged"),
    "texts: a heap without an end": (endless_heap, "the texts at byte 2048 do not fit into their place"),
    "texts: of fixed length": (labels(data=np.array([b"abc"])), "texts are damaged"),
    "provenance: missing": (lambda file: file.__delitem__("linear/provenance"), "provenance is missing"),
    "provenance: numbers": (link("linear/provenance", np.ones(3)), "provenance is missing"),
    "provenance: a link to another file": (
        link("linear/provenance", h5py.ExternalLink("/dev/zero", "/")),
        "provenance is missing",
    ),
    "variable: a link to itself": (link("linear/C", h5py.SoftLink("/linear/C")), ""),
    "group: a link to another file": (link("linear", h5py.ExternalLink("/dev/zero", "/")), "no group 'linear'"),
}

FLIPS, SEEDS = 30, 2


def act(path: Path) -> str:
    """Everything that a resumed run and `surgery results` do with a store; returns the first message."""
    readers: tuple[Callable[[], object], ...] = (
        lambda: list_groups(path),
        lambda: read_provenances(path),
        lambda: read_group(path, "linear"),
        lambda: read_group(path, "other"),
        lambda: write_group(path, group("other"), replace=True),
    )
    said = []
    for read in readers:
        try:
            read()
        except InputError as error:
            said.append(error.message)
    if not said:
        said += [item.reason for item in check_store(path) if item.state == "damaged"]
    return said[0] if said else ""


def main(folder: Path, what: str) -> None:
    """Open each store of a table, and print a line for each."""
    path = folder / "results.h5"
    write_group(path, group())
    write_group(path, group("other"))
    content = path.read_bytes()
    before = [repr(group_dict(read_group(path, name))) for name in ("linear", "other")]
    if what == "cases":
        for name, (change, _) in CASES.items():
            path.write_bytes(content)
            with h5py.File(path, "r+") as file:
                for item in (file["linear"], *(file["linear"][key] for key in file["linear"])):
                    item.attrs.pop("digest", None)  # as of an earlier version: otherwise the digest says enough
                change(file)
            print(f"{name}\t{act(path)}", flush=True)
        return
    numbers = random.Random(int(what))
    for number in range(FLIPS):
        damaged = bytearray(content)
        place = numbers.randrange(len(damaged))
        damaged[place] ^= 1 << numbers.randrange(8)
        path.write_bytes(damaged)
        if not act(path):
            found = [read_group(path, name) for name in ("linear", "other")]
            assert [repr(group_dict(item)) for item in found] == before
        print(f"{number}\tbyte {place}", flush=True)


def opened(folder: Path, what: object) -> dict[str, str]:
    """What a process of its own says about each store of a table."""
    command = [sys.executable, __file__, str(folder), str(what)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    assert done.returncode == 0, f"exit code {done.returncode} after {[*said.items()][-1:]}:\n{done.stderr[-2000:]}"
    return said


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The message about each hostile store."""
    return opened(tmp_path_factory.mktemp("hostile"), "cases")


@pytest.mark.parametrize("case", CASES)
def test_hostile_store(said: dict[str, str], case: str) -> None:
    assert CASES[case][1] in said[case]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_flipped_bits_are_errors_or_change_nothing(tmp_path: Path, seed: int) -> None:
    assert len(opened(tmp_path, seed)) == FLIPS


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

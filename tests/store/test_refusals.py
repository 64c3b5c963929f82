"""What a store refuses, with a message that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from surgery.errors import InputError
from surgery.store import Coordinate, Group, StoreError, Variable, list_groups, open_tree, read_group, write_group


def variable(**fields: Any) -> Variable:
    return Variable(**{"name": "x", "data": np.zeros((2, 2)), "dimensions": ("a", "b"), "long_name": "x"} | fields)


def group(**fields: Any) -> Group:
    return Group(**{"name": "g", "kind": "test", "variables": (variable(),)} | fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dimensions": ("class", "class")}, "class_other"),
        ({"dimensions": ("a",)}, "expected a dimension for each axis"),
        ({"data": np.zeros((2, 2), dtype=complex)}, "float32, float64"),
        ({"data": np.zeros((2, 2), dtype=np.longdouble)}, "float32, float64"),
        ({"data": np.zeros((0, 2))}, "expected entries"),
        ({"data": np.array([["a", "b"], ["c", "d\0e"]])}, "NUL"),
        ({"data": np.array([["a", "b"], ["c", 1]], dtype=object)}, "expected text, got int"),
        ({"data": np.array([["a", "b"], ["c", "\ud800"]])}, "UTF-8"),
        ({"units": "seconds"}, "use a symbol"),
        ({"units": "days since 2020-01-01"}, "dates or durations"),
        ({"long_name": "x" * 70_000}, "63 KiB"),
        ({"flag_meanings": ("yes", "no")}, "integers from 0 to 1"),
        ({"data": np.full((2, 2), 2), "flag_meanings": ("yes", "no")}, "integers from 0 to 1"),
        ({"data": np.zeros((2, 2), dtype=int), "flag_meanings": ("not so",)}, "without spaces"),
        *[
            ({"name": name}, "not a legal name")
            for name in ("", "a/b", " a", "_a", "a\nb", "x" * 256, "gro\u0308sse", 3)
        ],
    ],
)
def test_variable_that_some_reader_would_not_take(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        variable(**fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "a/b"}, "not a legal name"),
        ({"kind": ""}, "not a legal name"),
        ({"variables": (variable(), variable())}, "'x' is used more than once"),
        ({"variables": (variable(name="a"),)}, "'a' names both a variable and a dimension"),
        ({"variables": (variable(name="provenance"),)}, "'provenance'"),
        ({"variables": (variable(), variable(name="y", data=np.zeros((2, 3))))}, "'b' has 2 entries, but 3"),
        ({"coordinates": (Coordinate(name="a", values=("one",), long_name="a"),)}, "'a' has 1 entries, but 2"),
        ({"attributes": {"kind": "x"}}, "belongs to the layout"),
        ({"attributes": {"x": None}}, "NoneType"),
        ({"attributes": {"x": [1]}}, "as JSON into the provenance"),
        ({"attributes": {"x": 2**63}}, "64 bits"),
        ({"attributes": {"x": "y" * 65_536}}, "63 KiB"),
        ({"attributes": {"x/y": 1}}, "not a legal name"),
        ({"provenance": {"x": 1}}, "expected text"),
    ],
)
def test_group_that_some_reader_would_not_take(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        group(**fields)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.array([True, False]), ()])
def test_coordinate_is_one_row_of_labels(values: Any) -> None:
    with pytest.raises(InputError, match="coordinate 'a'"):
        Coordinate(name="a", values=values, long_name="a")


def test_largest_attribute_is_taken(tmp_path: Path) -> None:
    long = "ü" * (63 * 512)
    write_group(tmp_path, group(attributes={"note": long}, variables=(variable(comment=long),)))
    assert read_group(tmp_path, "g").attributes["note"] == long


# Files


def test_missing_store_and_missing_group(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.h5: no such file"):
        list_groups(tmp_path)
    write_group(tmp_path, group(name="linear"))
    with pytest.raises(StoreError, match="did you mean 'linear'"):
        read_group(tmp_path, "linaer")


READERS = [
    list_groups,
    lambda path: read_group(path, "g"),
    open_tree,
    lambda path: write_group(path, group(name="new")),
]


@pytest.mark.parametrize("read", READERS)
def test_foreign_files(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "results.h5"
    path.write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(StoreError, match="expected an HDF5 file, got a file of another format"):
        read(path)
    with h5py.File(path, "w") as file:
        file["g"] = [1, 2, 3]
    before = path.read_bytes()
    with pytest.raises(StoreError, match="expected a store of surgery, got another HDF5 file"):
        read(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_store(tmp_path: Path, read: Callable[[Path], Any], share: float) -> None:
    path = write_group(tmp_path, group())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match="truncated"):
        read(path)


def test_damaged_numbers_are_noticed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**62, size=(100, 100))
    path = write_group(tmp_path, group(variables=(variable(data=noise),)))
    with h5py.File(path) as file:
        chunk = file["g/x"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="cannot be read"):
        read_group(path, "g")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("where", ["/", "g"])
def test_newer_layout_says_what_to_do(tmp_path: Path, read: Callable[[Path], Any], where: str) -> None:
    path = write_group(tmp_path, group())
    with h5py.File(path, "a") as file:
        file[where].attrs["surgery_schema"] = 2
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"written by a newer surgery.*\n.*pip install --upgrade model-surgery"):
        read(path)
    assert path.read_bytes() == before

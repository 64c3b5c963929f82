"""Digests: no text and no number of a store changes without a word, and what is damaged can be removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from surgery.store import (
    CheckedGroup,
    Group,
    StoreError,
    check_store,
    list_groups,
    open_tree,
    read_group,
    read_provenances,
    remove_groups,
    write_groups,
)


@pytest.fixture
def store(tmp_path: Path, make: Callable[..., Group]) -> Path:
    return write_groups(tmp_path / "results.h5", [make("one"), make("two", seed=1)])


def change(path: Path, before: bytes, after: bytes, count: int = 1) -> None:
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, count))


def without_digests(path: Path) -> None:
    """Make the store one of an earlier version."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: item.attrs.pop("digest", None) and None)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("one", "method", "ward"),
        ("one", "kind", "hierarchy"),
        ("one", "written", "2001-01-01T00:00:00+00:00"),
        ("one", "more", 1),
        ("one/weight", "long_name", "another weight"),
        ("one/weight", "units", "m"),
        ("one/weight", "digest", "sha256:0"),
        ("one", "digest", "sha256:0"),
    ],
)
def test_changed_attribute_is_noticed(store: Path, place: str, name: str, value: object) -> None:
    with h5py.File(store, "r+") as file:
        file[place].attrs[name] = value
    with pytest.raises(StoreError, match=r"results\.h5: one.*: damaged: its content does not have the digest"):
        read_group(store, "one")
    read_group(store, "two")


def test_renamed_class_is_noticed_by_every_reader(store: Path) -> None:
    change(store, b"plane", b"plank", count=-1)
    for read in (lambda: read_group(store, "one"), lambda: open_tree(store)):
        with pytest.raises(StoreError, match=r"one/class: damaged"):
            read()
    assert [item.state for item in check_store(store)] == ["damaged", "damaged"]


def test_changed_provenance_is_noticed_without_reading_numbers(store: Path) -> None:
    change(store, b"[recipe]", b"[recipa]")
    for read in (list_groups, read_provenances):
        with pytest.raises(StoreError, match=r"one: damaged"):
            read(store)


@pytest.mark.parametrize("name", ["weight", "correlation", "superclass"])
def test_changed_entry_is_noticed(store: Path, name: str) -> None:
    with h5py.File(store, "r+") as file:
        data = file[f"one/{name}"]
        entries = data[()]
        entries.reshape(-1)[0] = "x" if entries.dtype == object else 7
        data[...] = entries
    with pytest.raises(StoreError, match=rf"one/{name}: damaged"):
        read_group(store, "one")


def test_missing_variable_is_noticed(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        del file["one/correlation"]
    with pytest.raises(StoreError, match="one: damaged"):
        read_group(store, "one")


def test_digest_that_was_removed_is_noticed(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        del file["one"].attrs["digest"]
    with pytest.raises(StoreError, match="one: damaged"):
        read_group(store, "one")


def test_store_of_an_earlier_version_is_read_and_said_to_have_no_digest(
    store: Path, make: Callable[..., Group]
) -> None:
    without_digests(store)
    assert np.array_equal(read_group(store, "one")["weight"], make()["weight"])
    assert check_store(store) == tuple(CheckedGroup(name=name, state="no digest") for name in ("one", "two"))


def test_damaged_groups_are_removed_and_the_others_stay(store: Path, make: Callable[..., Group]) -> None:
    change(store, b"[recipe]", b"[recipa]")
    found = check_store(store)
    assert [(item.name, item.state) for item in found] == [("one", "damaged"), ("two", "intact")]
    assert found[0].reason == f"{store}: one: damaged: its content does not have the digest that was written with it"
    remove_groups(store, ["one"])
    assert check_store(store) == (CheckedGroup(name="two", state="intact"),)
    assert np.array_equal(read_group(store, "two")["weight"], make(seed=1)["weight"])


def test_group_that_hdf5_cannot_open_is_removed_too(store: Path) -> None:
    with h5py.File(store) as file:
        address = h5py.h5o.get_info(file["one"].id).addr
    content = bytearray(store.read_bytes())
    content[address + 20] ^= 255
    store.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        list_groups(store)
    assert [(item.name, item.state) for item in check_store(store)] == [("one", "damaged"), ("two", "intact")]
    remove_groups(store, ["one"])
    assert [item.name for item in list_groups(store)] == ["two"]


def test_damaged_group_is_not_copied_without_a_word(store: Path, make: Callable[..., Group]) -> None:
    change(store, b"plane", b"plank", count=1)
    before = store.read_bytes()
    with pytest.raises(StoreError, match="one/class: damaged"):
        write_groups(store, [make("two")], replace=True)
    assert store.read_bytes() == before


def test_digests_are_those_of_the_documentation(store: Path) -> None:
    """Computed with h5py alone, as docs/store.md describes it."""
    import hashlib
    import json

    def digest(described: object, values: bytes = b"") -> str:
        text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(text.encode() + values).hexdigest()}"

    with h5py.File(store) as file:
        group = file["one"]
        weight = {
            "name": "weight",
            "dtype": "<f4",
            "shape": [4, 3, 4, 5],
            "long_name": "W",
            "units": "1",
            "dimensions": ["class", "channel", "row", "column"],
            "flag_meanings": None,
            "comment": "",
        }
        assert group["weight"].attrs["digest"] == digest(weight, group["weight"][()].tobytes())
        classes = {"name": "class", "dtype": "text", "shape": [4], "long_name": "class", "units": "1"}
        names = json.dumps(list(group["class"].asstr()), separators=(",", ":"), ensure_ascii=False).encode()
        assert group["class"].attrs["digest"] == digest(classes, names)
        whole = {
            "name": "one",
            "kind": group.attrs["kind"],
            "written": group.attrs["written"],
            "attributes": {"stage": "first", "steps": 20, "epsilon": 0.03125},
            "provenance": {name: item.asstr()[()] for name, item in group["provenance"].items()},
            "arrays": {name: item.attrs["digest"] for name, item in group.items() if "digest" in item.attrs},
        }
        assert group.attrs["digest"] == digest(whole)

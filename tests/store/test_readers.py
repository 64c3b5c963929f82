"""h5py, h5dump, netCDF4 and xarray with both engines read the same, class names included."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from surgery.errors import InputError
from surgery.store import Group, StoreError, open_tree, read_group, write_group, write_groups

MISSING = "h5dump is not installed (Debian: hdf5-tools)"


@pytest.fixture
def store(tmp_path: Path, make: Callable[..., Group]) -> Path:
    """A store whose first group has seen another one being added, and one replaced."""
    path = write_group(tmp_path, make("linear"))
    write_group(path, make("other", seed=5))
    write_group(path, make("other", seed=1), replace=True)
    return path


@pytest.mark.parametrize(("name", "seed"), [("linear", 0), ("other", 1)])
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_every_group(store: Path, make: Callable[..., Group], engine: str, name: str, seed: int) -> None:
    xarray = pytest.importorskip("xarray")
    group = make(name, seed=seed)
    with xarray.open_dataset(store, group=name, engine=engine) as found:
        assert set(found.data_vars) == {item.name for item in group.variables}
        for item in group.variables:
            assert found[item.name].dims == item.dimensions
            assert found[item.name].to_numpy().tolist() == item.data.tolist()
            assert found[item.name].attrs["long_name"] == item.long_name
        assert found["class"].to_numpy().tolist() == group["class"].tolist()
        pair = {"class": "犬 🐕", "class_other": "dög"}
        assert float(found["correlation"].sel(pair)) == group["correlation"][3, 2]
        assert found["seconds"].attrs["units"] == "s"
        assert found["confused"].attrs["flag_meanings"] == "false true"
        assert found.attrs["kind"] == "linear"
    with xarray.open_dataset(store, group=f"{name}/provenance", engine=engine) as notes:
        assert notes["recipe"].item() == group.provenance["recipe"]


def test_netcdf4_reads_every_group(store: Path, make: Callable[..., Group]) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(store) as found:
        assert list(found.groups) == ["linear", "other"]
        group = make("other", seed=1)
        for item in group.variables:
            variable = found["other"][item.name]
            assert variable.dimensions == item.dimensions
            assert np.asarray(variable[...]).tolist() == item.data.tolist()
        assert found["other"]["class"][:].tolist() == group["class"].tolist()
        assert found["other/provenance"]["recipe"][...] == group.provenance["recipe"]


def test_h5py_reads_every_group(store: Path, make: Callable[..., Group]) -> None:
    with h5py.File(store) as found:
        for name, seed in (("linear", 0), ("other", 1)):
            group = make(name, seed=seed)
            data = found[name]["weight"]
            assert np.array_equal(data[:], group["weight"])
            assert [dimension[0].name for dimension in data.dims] == [
                f"/{name}/{dimension}" for dimension in ("class", "channel", "row", "column")
            ]
            assert (data.compression, data.shuffle, data.fletcher32) == ("gzip", True, True)
            assert data.dims[0][0].asstr()[:].tolist() == group["class"].tolist()


@pytest.mark.skipif(shutil.which("h5dump") is None, reason=MISSING)
@pytest.mark.parametrize("name", ["linear", "other"])
def test_h5dump_reads_every_group(store: Path, make: Callable[..., Group], name: str) -> None:
    for dataset in [item.name for item in make(name).variables] + ["class", "class_other", "provenance/recipe"]:
        command = ["h5dump", "-d", f"/{name}/{dataset}", str(store)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, errors="replace")
        assert "error" not in done.stdout + done.stderr
    assert '"plane", "cat"' in subprocess.run(
        ["h5dump", "-d", f"/{name}/class", str(store)], capture_output=True, check=True, text=True, errors="replace"
    ).stdout  # fmt: skip


def test_reading_while_another_program_of_this_process_has_it_open(store: Path, make: Callable[..., Group]) -> None:
    with h5py.File(store) as found:
        assert read_group(store, "linear")["weight"].tolist() == make("linear")["weight"].tolist()
        write_group(store, make("linear", seed=3), replace=True)
        assert np.array_equal(found["linear/weight"][:], make("linear")["weight"]), "a reader keeps what it opened"


# The tree


def test_tree_selects_by_class_names(store: Path, make: Callable[..., Group]) -> None:
    pytest.importorskip("xarray")
    tree = open_tree(store.parent)
    found = tree["linear"].correlation.sel({"class": "cat", "class_other": "dög"})
    assert float(found) == make("linear")["correlation"][1, 2]
    assert set(tree.children) == {"linear", "other"}
    assert tree["linear/provenance"].recipe.item().startswith("[recipe]")


def test_small_trees_leave_no_file_open(store: Path) -> None:
    pytest.importorskip("xarray")
    tree = open_tree(store)
    store.unlink()
    assert tree["linear"].weight.shape == (4, 3, 4, 5)
    assert float(tree["linear"].weight.sum()) != 0


def test_large_variables_are_read_later_from_the_store_that_was_opened(
    store: Path, make: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xarray")
    monkeypatch.setattr("surgery.store.tree.LAZY_BYTES", 500)
    tree = open_tree(store)
    write_group(store, make("linear", seed=9), replace=True)
    assert np.array_equal(tree["linear"].weight.to_numpy(), make("linear")["weight"])
    tree.close()
    assert np.array_equal(tree["linear"].weight.to_numpy(), make("linear")["weight"]), "what was read stays"


def test_lazy_variable_is_readable_after_closing(
    store: Path, make: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xarray")
    monkeypatch.setattr("surgery.store.tree.LAZY_BYTES", 500)
    tree = open_tree(store)
    tree.close()
    assert np.array_equal(tree["linear"].weight.to_numpy(), make("linear")["weight"])
    tree.close()


def test_without_xarray_the_extra_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    with pytest.raises(InputError, match=r"pip install 'model-surgery\[analysis\]'"):
        open_tree(store)


def test_tree_of_what_is_no_store(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    (tmp_path / "results.h5").write_text("no")
    with pytest.raises(StoreError, match="expected an HDF5 file"):
        open_tree(tmp_path)


def test_every_axis_has_a_scale_or_none(tmp_path: Path, make: Callable[..., Group]) -> None:
    path = write_groups(tmp_path, [make("linear")])
    with h5py.File(path) as found:
        for item in found["linear"].values():
            if isinstance(item, h5py.Dataset) and not item.is_scale:
                assert all(len(dimension) == 1 for dimension in item.dims)

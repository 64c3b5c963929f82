"""The comparison of two stores, and results in other formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgery.errors import InputError
from surgery.store import Coordinate, Group, Variable, compare, write_csv, write_group, write_npz
from surgery.store.comparing import largest_difference
from surgery.store.exporting import csv_text, group_dict


def pair(folder: Path, first: Group, second: Group) -> tuple[Path, Path]:
    return write_group(folder / "A.h5", first), write_group(folder / "B.h5", second)


def altered(group: Group, name: str, data: np.ndarray) -> Group:
    return replace(
        group, variables=tuple(replace(item, data=data) if item.name == name else item for item in group.variables)
    )


def test_same_results_of_another_run(tmp_path: Path, make: Callable[..., Group]) -> None:
    found = compare(*pair(tmp_path, make(), replace(make(), provenance={"recipe": "another"})))
    assert found.same
    assert {(item.what, item.name) for item in found.differences} == {("provenance", "recipe"), ("provenance", "empty")}
    assert set(found.largest.values()) == {0.0}
    assert "linear/weight" in found.largest


def test_largest_difference_of_each_variable(tmp_path: Path, make: Callable[..., Group]) -> None:
    data = make()["correlation"].copy()
    data[1, 2] += 0.25
    data[0, 1] -= 0.125
    found = compare(*pair(tmp_path, make(), altered(make(), "correlation", data)))
    assert not found.same
    [difference] = found.differences
    assert (difference.group, difference.what, difference.name) == ("linear", "variable", "correlation")
    assert difference.largest == found.largest["linear/correlation"] == pytest.approx(0.25)
    assert found.largest["linear/weight"] == 0


def test_other_differences_are_named(tmp_path: Path, make: Callable[..., Group]) -> None:
    first = make()
    second = altered(altered(first, "superclass", np.array(["a", "b", "b", "b"])), "seconds", np.arange(4))
    second = altered(second, "score", np.float32(0.5))
    kept = tuple(item for item in second.variables if item.name != "confused")
    second = replace(second, variables=kept, kind="other", attributes={**first.attributes, "steps": 21})
    found = {(item.what, item.name): item.found for item in compare(*pair(tmp_path, first, second)).differences}
    assert found == {
        ("kind", "kind"): "linear / other",
        ("variable", "confused"): "only in the first",
        ("variable", "superclass"): "1 of 4 texts",
        ("variable", "seconds"): "shape (3,) / (4,)",
        ("variable", "score"): "values",
        ("attribute", "steps"): "20 / 21",
    }


def test_times_are_told_and_do_not_count(tmp_path: Path, make: Callable[..., Group]) -> None:
    found = compare(*pair(tmp_path, make(), altered(make(), "seconds", np.arange(3) + 5)))
    assert [(item.what, item.name, item.largest) for item in found.differences] == [("time", "seconds", 5.0)]
    assert found.same


def test_zeros_of_other_signs_are_other_bits(tmp_path: Path, make: Callable[..., Group]) -> None:
    zeros = np.zeros((4, 4))
    first, second = altered(make(), "correlation", zeros), altered(make(), "correlation", -zeros)
    [difference] = compare(*pair(tmp_path, first, second)).differences
    assert (difference.found, difference.largest) == ("signs of zeros or of NaN", 0.0)


def test_groups_of_one_store_only(tmp_path: Path, make: Callable[..., Group]) -> None:
    found = compare(*pair(tmp_path, make("one"), make("two")))
    assert (found.only_first, found.only_second, found.same) == (("one",), ("two",), False)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], 0),
        ([1.0, np.nan], [1.0, 0.0], np.inf),
        ([np.inf], [-np.inf], np.inf),
        ([np.inf], [1.0], np.inf),
        ([0.0], [-0.0], 0),
        ([3, 200], [5, 255], 55),
    ],
)
def test_difference_of_numbers_that_are_not_finite(first: list[float], second: list[float], expected: float) -> None:
    assert largest_difference(np.array(first), np.array(second)) == expected


# Export


def test_csv_of_a_matrix_has_names_on_both_sides(make: Callable[..., Group]) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(make(), "correlation"))))
    assert rows[0] == ["class/class_other", *make()["class"]]
    assert [row[0] for row in rows[1:]] == list(make()["class"])
    assert np.array_equal(np.array([row[1:] for row in rows[1:]], dtype=float), make()["correlation"])


def test_csv_of_other_shapes_has_a_row_for_each_entry(make: Callable[..., Group]) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(make(), "weight"))))
    assert rows[0] == ["class", "channel", "row", "column", "weight"]
    assert rows[1][:4] == ["plane", "0", "0", "0"]
    assert np.array_equal(np.array([row[4] for row in rows[1:]], dtype=np.float32), make()["weight"].reshape(-1))
    assert csv_text(make(), "score") == "score\n0.1\n"


def test_csv_writes_single_precision_shortly() -> None:
    item = Variable(name="x", data=np.array([0.1], dtype=np.float32), dimensions=("entry",), long_name="x")
    label = Coordinate(name="entry", values=('say "a,b"',), long_name="e")
    group = Group(name="g", kind="test", variables=(item,), coordinates=(label,))
    assert csv_text(group, "x") == 'entry,x\n"say ""a,b""",0.1\n'


def test_csv_folder_is_new_and_whole(tmp_path: Path, make: Callable[..., Group]) -> None:
    names = write_csv(tmp_path / "tables", [make("one"), make("two")])
    assert sorted(names) == sorted(item.name for item in (tmp_path / "tables").iterdir())
    assert "two.block_matrix.csv" in names
    with pytest.raises(InputError, match="expected a new folder, but it exists already"):
        write_csv(tmp_path / "tables", [make("one")])
    assert [item.name for item in tmp_path.iterdir()] == ["tables"]


def test_npz_holds_everything(tmp_path: Path, make: Callable[..., Group]) -> None:
    write_npz(tmp_path / "all.npz", [make("one"), make("two", seed=1)])
    with np.load(tmp_path / "all.npz", allow_pickle=False) as found:
        assert np.array_equal(found["two/weight"], make(seed=1)["weight"])
        assert found["one/class"].tolist() == make()["class"].tolist()
    assert [item.name for item in tmp_path.iterdir()] == ["all.npz"]


def test_plain_values_leave_out_what_is_too_large(make: Callable[..., Group]) -> None:
    found = group_dict(make(), limit=16)["variables"]
    assert found["weight"]["values"] is None
    assert found["correlation"]["values"] == make()["correlation"].tolist()
    assert group_dict(make())["variables"]["weight"]["values"] == make()["weight"].tolist()

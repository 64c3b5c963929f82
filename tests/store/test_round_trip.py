"""What is written is what is read, exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.store import Coordinate, Group, Variable, list_groups, read_group, write_group, write_groups
from surgery.store.layout import CHUNK_BYTES, chunk_shape, largest_size

TYPES = ["<f4", "<f8", ">f8", ">i4", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)), "?"]
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.sampled_from(["größe", "類", "Ωmega", "class", "x.y"]) | st.from_regex(
    r"[a-z][a-z0-9_.@+-]{0,6}", fullmatch=True
)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


def same(first: Group, second: Group) -> None:
    """Assert that two groups are equal in everything."""
    assert (first.name, first.kind) == (second.name, second.kind)
    assert dict(first.attributes) == dict(second.attributes)
    assert [type(value) for value in first.attributes.values()] == [type(v) for v in second.attributes.values()]
    assert dict(first.provenance) == dict(second.provenance)
    assert len(first.variables) == len(second.variables)
    assert [item.name for item in first.coordinates] == [item.name for item in second.coordinates]
    for ours, theirs in zip(first.variables, second.variables, strict=True):
        for field in ("name", "dimensions", "long_name", "units", "flag_meanings", "comment"):
            assert getattr(ours, field) == getattr(theirs, field)
        identical(ours.data, theirs.data)
    for ours, theirs in zip(first.coordinates, second.coordinates, strict=True):
        assert (ours.long_name, ours.units) == (theirs.long_name, theirs.units)
        identical(np.asarray(ours.values), np.asarray(theirs.values))


def identical(first: np.ndarray, second: np.ndarray) -> None:
    """Assert equality bit for bit, of NaN payloads and negative zeros too."""
    assert first.shape == second.shape
    if first.dtype.kind == "U":
        assert first.tolist() == second.tolist()
        return
    assert first.dtype == second.dtype
    assert first.tobytes() == second.tobytes()


@st.composite
def groups(draw: st.DrawFn) -> Group:
    dimensions = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    sizes = {name: draw(st.integers(1, 5)) for name in dimensions}
    labeled = draw(st.lists(st.sampled_from(dimensions), unique=True))
    variables = draw(st.lists(names.map(lambda name: f"v_{name}"), max_size=3, unique=True))
    return Group(
        name=draw(names),
        kind="test",
        coordinates=tuple(
            Coordinate(name=name, values=draw(st.tuples(*[text] * sizes[name])), long_name=draw(text))
            for name in labeled
        ),
        variables=tuple(draw(variable(name, sizes)) for name in variables),
        attributes=draw(st.dictionaries(names.map(lambda name: f"a_{name}"), text | numbers, max_size=12)),
        provenance=draw(st.dictionaries(names, text, max_size=4)),
    )


@st.composite
def variable(draw: st.DrawFn, name: str, sizes: dict[str, int]) -> Variable:
    used = tuple(draw(st.lists(st.sampled_from(sorted(sizes)), unique=True)))
    shape = tuple(sizes[dimension] for dimension in used)
    content = arrays.arrays(np.dtype(draw(st.sampled_from(TYPES))), shape) | arrays.arrays(object, shape, elements=text)
    data = draw(content)
    return Variable(name=name, data=np.asarray(data), dimensions=used, long_name=draw(text), comment=draw(text))


@settings(max_examples=60, deadline=None)
@given(groups())
def test_any_group_comes_back_as_it_was(group: Group) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_group(folder, group)
        assert path == Path(folder).resolve() / "results.h5"
        same(read_group(folder, group.name), group)
        assert path.stat().st_size <= largest_size(group) + 4096, "what is reserved on the disk is enough"


def test_groups_stay_as_they_were_when_others_come(tmp_path: Path, make: Callable[..., Group]) -> None:
    for number, name in enumerate(("one", "two", "three")):
        write_group(tmp_path, make(name, seed=number))
    for number, name in enumerate(("one", "two", "three")):
        same(read_group(tmp_path, name), make(name, seed=number))
    assert [item.name for item in list_groups(tmp_path)] == ["one", "two", "three"]


def test_large_arrays_are_cut_into_chunks(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(40, 3, 64, 64)).astype(np.float32)
    item = Variable(name="weight", data=data, dimensions=("class", "channel", "row", "column"), long_name="W")
    group = Group(name="linear", kind="linear", variables=(item,))
    path = write_group(tmp_path, group)
    identical(read_group(path, "linear")["weight"], data)
    assert path.stat().st_size <= largest_size(group)


@pytest.mark.parametrize(
    ("shape", "itemsize", "expected"),
    [
        ((10, 3, 32, 32), 4, (10, 3, 32, 32)),
        ((1000, 3, 224, 224), 4, (1, 3, 224, 224)),
        ((1000, 1000), 8, (131, 1000)),
        ((2, 10**7), 1, (1, CHUNK_BYTES)),
        ((3,), 8, (3,)),
    ],
)
def test_chunks_are_about_a_mebibyte(shape: tuple[int, ...], itemsize: int, expected: tuple[int, ...]) -> None:
    assert chunk_shape(shape, itemsize) == expected
    assert np.prod(expected) * itemsize <= CHUNK_BYTES


def test_summary_says_what_is_there(tmp_path: Path, make: Callable[..., Group]) -> None:
    write_groups(tmp_path, [make("linear"), make("other")])
    first, second = list_groups(tmp_path)
    assert (first.name, second.name, first.kind) == ("linear", "other", "linear")
    assert first.shapes["weight"] == (4, 3, 4, 5)
    assert first.dimensions["correlation"] == ("class", "class_other")
    assert first.size > 0
    assert first.written.endswith("+00:00")


def test_half_precision_is_kept_exactly_as_single(tmp_path: Path) -> None:
    data = np.array([0.1, np.inf, -0.0, 6e-8], dtype=np.float16)
    item = Variable(name="half", data=data, dimensions=("entry",), long_name="half")
    write_group(tmp_path, Group(name="g", kind="test", variables=(item,)))
    found = read_group(tmp_path, "g")["half"]
    assert found.dtype == np.float32
    identical(found.astype(np.float16), data)


def test_a_value_cannot_be_changed() -> None:
    item = Variable(name="x", data=np.zeros(3), dimensions=("entry",), long_name="x")
    with pytest.raises(ValueError, match="read-only"):
        item.data[0] = 2

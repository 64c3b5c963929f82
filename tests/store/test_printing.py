"""What `print` shows of a store's values: at most a screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from surgery.store import Comparison, Coordinate, Group, Variable, class_coordinates
from surgery.store.comparing import Difference


def test_group_is_described_by_its_arrays(make: Callable[..., Group]) -> None:
    lines = repr(make()).splitlines()
    assert lines[0] == "Group linear (linear)"
    assert "  Coordinate(class 4: plane, cat, dög, 犬 🐕)" in lines
    assert "  Variable(weight (class 4, channel 3, row 4, column 5) float32: W)" in lines
    assert lines[-2:] == ["  attributes: stage first, steps 20, epsilon 0.03125", "  provenance: recipe, empty"]


def test_large_group_is_one_screen(make: Callable[..., Group]) -> None:
    variables = [
        Variable(name=f"x{number}", data=np.zeros(9), dimensions=("entry",), long_name="long " * 99)
        for number in range(500)
    ]
    group = replace(
        make(classes=3000),
        variables=tuple(variables),
        attributes={f"fact{number}": "x" * 900 for number in range(50)},
        provenance={"recipe": "line\n" * 10000},
    )
    text = repr(group)
    assert len(text.splitlines()) < 30
    assert max(map(len, text.splitlines())) <= 122
    assert "and 478 more" in text


def test_labels_are_shortened() -> None:
    assert repr(class_coordinates([f"class {number}" for number in range(1000)])[0]) == (
        "Coordinate(class 1000: class 0, class 1, class 2, class 3, class 4, class 5, class 6, class 7, ...)"
    )
    assert len(repr(Coordinate(name="a", values=("x" * 5000,), long_name="a"))) <= 120


def test_comparison_shows_the_first_differences() -> None:
    difference = Difference(group="at", what="variable", name="loss", found="values", largest=1.0)
    text = repr(Comparison(only_first=("a",) * 900, only_second=(), differences=(difference,) * 900, largest={}))
    assert text.splitlines()[:2] == [
        "Comparison: different results; only in the first: 900 groups, only in the second: 0 groups",
        "  at/loss: values",
    ]
    assert text.splitlines()[-1] == "  and 880 more differences"
    assert len(text.splitlines()) == 22

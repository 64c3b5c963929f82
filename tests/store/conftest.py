"""A small group as a stage would write it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from surgery.store import Group, Variable, class_coordinates

NAMES = ("plane", "cat", "dög", "犬 🐕")


@pytest.fixture
def make() -> Callable[..., Group]:
    """A function that makes a group: `make("linear")`, with other numbers `make("linear", seed=1)`."""

    def group(name: str = "linear", *, seed: int = 0, classes: int = len(NAMES)) -> Group:
        chance = np.random.default_rng(seed)
        labels = NAMES if classes == len(NAMES) else tuple(f"class {number}" for number in range(classes))
        weight = chance.normal(size=(classes, 3, 4, 5)).astype(np.float32)
        matrix = np.corrcoef(weight.reshape(classes, -1).astype(np.float64))
        pair = ("class", "class_other")
        return Group(
            name=name,
            kind="linear",
            coordinates=class_coordinates(labels),
            variables=(
                Variable(name="weight", data=weight, dimensions=("class", "channel", "row", "column"), long_name="W"),
                Variable(name="correlation", data=matrix, dimensions=pair, long_name="C", comment="of classes"),
                Variable(name="block_matrix", data=np.sign(matrix).astype(np.int8), dimensions=pair, long_name="C_op"),
                Variable(name="confused", data=matrix > 0.5, dimensions=pair, long_name="confused"),
                Variable(
                    name="superclass",
                    data=np.array(["a", "b"] * classes)[:classes],
                    dimensions=("class",),
                    long_name="s",
                ),
                Variable(name="score", data=np.float64(0.1), dimensions=(), long_name="score"),
                Variable(name="seconds", data=np.arange(3), dimensions=("epoch",), long_name="time", units="s"),
            ),
            attributes={"stage": "first", "steps": 20, "epsilon": 0.03125},
            provenance={"recipe": "[recipe]\nname = 'größe'\n" * 5000, "empty": ""},
        )

    return group

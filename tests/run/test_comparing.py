"""Two runs side by side: paired tests on the same images, and the parameters that differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgery.attack import mcnemar
from surgery.run import changed_parameters, paired_accuracies
from surgery.run.comparing import difference_interval
from surgery.store import Coordinate, Group, Variable, read_group, write_group

ATTACKS = ("natural", "pgd")


def attack_group(name: str, correct: np.ndarray, *, label: int = 0, **parameters: Any) -> Group:
    images = correct.shape[1]
    return Group(
        name=name,
        kind="attack",
        coordinates=(Coordinate(name="attack", values=ATTACKS, long_name="attack"),),
        variables=(
            Variable(name="label", data=np.full(images, label), dimensions=("image",), long_name="label"),
            Variable(name="correct", data=correct, dimensions=("attack", "image"), long_name="correct"),
        ),
        provenance={"parameters": json.dumps(parameters)},
    )


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    chance = np.random.default_rng(0)
    correct = chance.random((2, 2, 200)) < np.array([0.9, 0.5])[:, None]
    first = attack_group("robustness", correct[0], steps=10, attack={"epsilon": 0.03})
    second = attack_group("robustness", correct[1], steps=20, attack={"epsilon": 0.03})
    other = attack_group("elsewhere", correct[0])
    write_group(tmp_path / "A.h5", first)
    write_group(tmp_path / "A.h5", other)
    write_group(tmp_path / "B.h5", second)
    write_group(tmp_path / "B.h5", attack_group("elsewhere", correct[0], label=1))
    return tmp_path / "A.h5", tmp_path / "B.h5"


def test_accuracies_are_compared_image_by_image(pair: tuple[Path, Path]) -> None:
    found = paired_accuracies(*pair)
    assert [(item.group, item.attack, item.images) for item in found] == [
        *(("robustness", "natural", 200), ("robustness", "pgd", 200)),
    ], "other labels are other images"
    one, other = (read_group(path, "robustness")["correct"][1] == 1 for path in pair)
    expected = mcnemar(one, other)
    assert (found[1].first, found[1].second) == (one.mean(), other.mean())
    assert (found[1].difference, found[1].p_value) == (expected.difference, expected.p_value)
    assert (found[1].only_first, found[1].only_second) == (expected.only_first, expected.only_second)
    assert found[1].interval[0] < found[1].difference < found[1].interval[1]


def test_interval_covers_the_difference_as_often_as_it_says() -> None:
    """Coverage of 2000 draws of 100 images, at a true difference of 0.1: 0.95 up to three standard errors."""
    draws = np.random.default_rng(0).multinomial(100, [0.15, 0.25, 0.6], size=2000)
    covered = [
        low <= 0.1 <= high for low, high in (difference_interval(first, second, 100) for first, second, _ in draws)
    ]
    assert abs(np.mean(covered) - 0.95) < 0.015
    low, high = difference_interval(0, 0, 50)
    assert -0.08 < low < 0 < high < 0.08, "no point, although the networks agree on all images"


def test_parameters_that_differ_are_named(pair: tuple[Path, Path]) -> None:
    [found] = changed_parameters(*pair)
    assert (found.group, found.name, found.first, found.second) == ("robustness", "steps", "10", "20")


def test_other_steps_of_a_run_are_the_only_change(
    folder: Path, undisturbed: Path, small: str, run: Callable[..., Any]
) -> None:
    run(folder, small.replace('"8/255"', '"4/255"'), stages=("robustness",))
    assert [(item.group, item.name) for item in changed_parameters(undisturbed, folder)] == [
        ("robustness", "attacks.fgsm.epsilon")
    ]
    assert [item.attack for item in paired_accuracies(undisturbed, folder)] == ["natural", "fgsm", "worst_case"]


def test_parameters_outside_of_stages_are_those_of_the_recipe(tmp_path: Path) -> None:
    recipe = '[recipe]\nseed = {}\n[data]\nname = "planted"\n[stage.at]\nepochs = {}\n'
    for name, number in (("A.h5", 1), ("B.h5", 2)):
        group = attack_group("robustness", np.ones((2, 3), dtype=bool))
        write_group(tmp_path / name, replace(group, provenance={"recipe": recipe.format(number, number)}))
    found = changed_parameters(tmp_path / "A.h5", tmp_path / "B.h5")
    assert [(item.group, item.name, item.first, item.second) for item in found] == [("recipe", "recipe.seed", "1", "2")]

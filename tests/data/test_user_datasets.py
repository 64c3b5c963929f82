"""Data sets that users write, by the name of a function or of an entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from surgery.data import Dataset, load
from surgery.data.sources import check_dataset, user_reference
from surgery.errors import InputError
from surgery.plugins import ArgumentError
from surgery.stages.network import DataTable

SOURCE = """
import torch
from surgery.data import Dataset, Split
from surgery.errors import InputError

def made(count, size, labels=None):
    images = torch.arange(count).remainder(256).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, size, size)
    return Split(images=images.contiguous(), labels=torch.arange(count) % 2)

def data(train, validation, test, size=4):
    return Dataset(name="own", title="own", class_names=("even", "odd"), hierarchy=None,
                   train=made(train, size), validation=made(validation, size), test=made(test, size))

def plain(*, count=100):
    return data(count, 0, 20)

def all_of_them(root, download, seed, image_size, validation, train_size, test_size, *, classes):
    from user_data_for_tests import helpers
    helpers.seen.update(locals())
    return data(train_size or 100, 0, test_size or 20, image_size or 4)

def broken():
    return {}["x"]

def refusing():
    raise InputError("there is no such disk")

def number():
    return 3
"""
NAME = "user_data_for_tests.sets"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package in the current folder, which is not on the path of modules."""
    folder = tmp_path / "user_data_for_tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "sets.py").write_text(SOURCE)
    (folder / "helpers.py").write_text("seen = {}\n")
    monkeypatch.chdir(tmp_path)
    yield
    for name in imported():
        del sys.modules[name]


def imported() -> list[str]:
    return [name for name in sys.modules if name.startswith("user_data_for_tests")]


def sizes(data: Dataset) -> tuple[int, ...]:
    return tuple(len(split) for split in data.splits.values())


def test_a_function_is_called_with_its_own_parameters() -> None:
    assert sizes(load(f"{NAME}:plain", validation=0)) == (100, 0, 20)
    assert sizes(load(f"{NAME}:plain", validation=0, count=30)) == (30, 0, 20)


def test_sizes_and_shares_that_it_does_not_take_are_applied_to_its_result() -> None:
    data = load(f"{NAME}:plain", train_size=40, test_size=10, validation=0.1, seed=3)
    assert sizes(data) == (36, 4, 10)
    assert data.digest == load(f"{NAME}:plain", train_size=40, test_size=10, validation=0.1, seed=3).digest
    assert data.digest != load(f"{NAME}:plain", train_size=40, test_size=10, validation=0.1, seed=4).digest


def test_common_arguments_are_passed_where_they_are_taken() -> None:
    given: dict[str, Any] = {"download": True, "seed": 4, "image_size": 6, "validation": 0.2, "train_size": 30}
    data = load(f"{NAME}:all_of_them", "somewhere", **given, classes=["a"])
    seen = {key: value for key, value in sys.modules["user_data_for_tests.helpers"].seen.items() if key != "helpers"}
    assert seen == {**given, "root": Path("somewhere"), "test_size": None, "classes": ["a"]}
    assert sizes(data) == (30, 0, 20), "the function takes the sizes and the share, so they are its own affair"
    assert data.input_shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("plain", {"cuont": 3}, r"unknown argument 'cuont'(.|\n)*did you mean 'count'"),
        ("all_of_them", {}, "the argument 'classes' is missing"),
        ("plain", {"image_size": 8}, "plain: takes no image_size"),
        ("plain", {"download": True}, "plain: cannot be downloaded"),
        ("plain", {"train_size": 1000}, "own: train_size is 1000, but there are 100 train images"),
        ("broken", {}, "calling it raised KeyError: 'x'"),
        ("refusing", {}, "^there is no such disk$"),
        ("number", {}, "expected a surgery.data.Dataset, got int"),
        ("plian", {}, r"defines no 'plian'(.|\n)*did you mean 'plain'"),
    ],
)
def test_what_cannot_be_loaded_says_why(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(f"{NAME}:{name}", **arguments)


def test_parameters_are_checked_without_importing() -> None:
    check_dataset(f"{NAME}:plain", {"count"})
    check_dataset(f"{NAME}:all_of_them", {"classes": []})
    with pytest.raises(ArgumentError, match="unknown argument 'cuont'") as caught:
        check_dataset(f"{NAME}:plain", {"cuont": 3})
    assert caught.value.key == "cuont"
    with pytest.raises(InputError, match=r"no module 'user_data_for_tests\.nothing' was found"):
        check_dataset("user_data_for_tests.nothing:load", ())
    assert not imported()


def test_the_size_of_images_is_checked_without_importing() -> None:
    check_dataset(f"{NAME}:all_of_them", image_size=8)
    check_dataset("cifar10", image_size=8)
    with pytest.raises(ArgumentError, match=r"sets:plain: takes no image_size\n.*omit image_size") as caught:
        check_dataset(f"{NAME}:plain", image_size=8)
    assert caught.value.key == "image_size"
    with pytest.raises(InputError, match="image_size is a whole number of at least 1; got 0"):
        check_dataset("cifar10", image_size=0)
    with pytest.raises(ValidationError, match=r"image_size\n.*plain: takes no image_size"):
        DataTable(name=f"{NAME}:plain", image_size=8)
    assert not imported()


def test_a_function_of_the_running_program_is_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load("planted", train_size=9, test_size=9, validation=0)
    monkeypatch.setattr(sys.modules["__main__"], "made_at_the_prompt", lambda: made, raising=False)
    assert load("__main__:made_at_the_prompt", validation=0).digest == made.digest


def test_parameters_of_known_data_sets_are_checked() -> None:
    check_dataset("planted", {"noise": 0.1})
    check_dataset("cifar10", ())
    with pytest.raises(ArgumentError, match="cifar10: unknown argument 'noise'"):
        check_dataset("cifar10", {"noise"})
    with pytest.raises(InputError, match=r"cifr10: unknown data set(.|\n)*did you mean 'cifar10'"):
        check_dataset("cifr10", ())


def test_entry_points_have_names_and_known_names_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"parity": f"{NAME}:plain", "digits": f"{NAME}:plain"}
    monkeypatch.setattr("surgery.plugins._registered", lambda: {"surgery.datasets": names})
    assert user_reference("parity") == f"{NAME}:plain"
    assert user_reference("digits") is None
    assert load("parity").class_names == ("even", "odd")
    with pytest.raises(InputError, match=r"unknown data set; there are .*parity(.|\n)*did you mean 'parity'"):
        load("pariti")

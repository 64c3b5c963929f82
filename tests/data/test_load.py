from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import surgery.data
from surgery.data import DATASETS, SOURCES, load
from surgery.errors import InputError

PUBLIC = {
    "Augmentation",
    "DATASETS",
    "Dataset",
    "SOURCES",
    "Split",
    "images_as_float",
    "load",
    "planted",
}


def test_the_public_names_are_these() -> None:
    names = {name for name, value in vars(surgery.data).items() if not name.startswith("_")}
    modules = {name for name in names if type(getattr(surgery.data, name)) is type(sys)}
    assert names - modules == PUBLIC
    assert tuple(SOURCES) == DATASETS


@pytest.mark.parametrize(
    ("name", "hint"), [("cifar-10", "cifar10"), ("CIFAR10", "cifar10"), ("tinyimagenet", "tiny-imagenet")]
)
def test_an_unknown_name_comes_with_the_nearest_ones(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: unknown data set; there are cifar10, .*\n.*did you mean.*'{hint}'"):
        load(name)


def test_an_unknown_parameter_comes_with_the_nearest_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"planted: unknown argument 'superclass'\n.*did you mean 'superclasses'"):
        load("planted", superclass=2)
    with pytest.raises(InputError, match=r"cifar10: unknown argument 'classes'\n.*it takes no arguments"):
        load("cifar10", tmp_path, classes=["cat"])
    with pytest.raises(InputError, match="image_size is a whole number of at least 1; got 0"):
        load("digits", image_size=0)


def test_only_some_can_be_downloaded() -> None:
    with pytest.raises(InputError, match=r"digits: cannot be downloaded\n.*cifar10, cifar100, stl10"):
        load("digits", download=True)


def test_the_root_is_given_or_in_the_environment_or_data(
    plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("given", "variable", "data"):
        plant(tmp_path / name / "train", ["a", "b"], 5)
    monkeypatch.chdir(tmp_path)
    assert load("folder").title == "data (image folders)"
    monkeypatch.setenv("SURGERY_DATA", str(tmp_path / "variable"))
    assert load("folder").title == "variable (image folders)"
    assert load("folder", "given").title == "given (image folders)"
    monkeypatch.setenv("SURGERY_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"CIFAR-10 not found in .*nowhere; looked for.*\n.*SURGERY_DATA"):
        load("cifar10")


def test_planted_is_loaded_with_its_own_sizes() -> None:
    data = load("planted", train_size=200, test_size=50, validation=0.1, superclasses=2, subclasses=2)
    assert tuple(len(split) for split in data.splits.values()) == (180, 20, 50)
    same = surgery.data.planted(train_size=200, test_size=50, validation=0.1, superclasses=2, subclasses=2)
    assert same.digest == data.digest


def test_digits_have_a_test_split_that_no_seed_changes() -> None:
    data = load("digits")
    assert data.input_shape == (1, 8, 8)
    assert tuple(len(split) for split in data.splits.values()) == (1365, 72, 360)
    assert data.class_names == tuple("0123456789")
    assert int(data.train.images.max()) == 255
    assert set((data.train.images.unique().int() * 16).tolist()) <= {(255 * v + 8) // 16 * 16 for v in range(17)}
    assert max(data.test.labels.bincount()) - min(data.test.labels.bincount()) <= 2
    other = load("digits", seed=1)
    assert other.test.digest == data.test.digest
    assert other.validation.digest != data.validation.digest
    assert load("digits", image_size=16).input_shape == (1, 16, 16)


def test_a_missing_scikit_learn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"scikit-learn, .* is not installed\n.*model-surgery\[data\]"):
        load("digits")


def test_importing_data_imports_neither_torchvision_nor_scikit_learn() -> None:
    code = "import surgery.data, sys; print([m for m in ('torchvision', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_random_states_are_left_alone() -> None:
    state = torch.get_rng_state()
    load("planted", train_size=20, test_size=10)
    assert torch.equal(torch.get_rng_state(), state)

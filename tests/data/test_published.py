"""CIFAR and STL-10 as they are published, in files made here, with the checksums of these."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from surgery.data import load
from surgery.errors import InputError
from surgery.hierarchy import named


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def dump(path: Path, content: dict[str, object]) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, md5(path)]


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every class twice in the training batch and once in the test batch; red, green and blue are 1, 2 and 3."""
    name = request.param
    made = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    names = list(named(name).class_names)
    folder = tmp_path / made.base_folder
    for which, labels in (("train_list", [*range(len(names))] * 2), ("test_list", [*range(len(names))][::-1])):
        pixels = np.repeat(np.tile(np.array([1, 2, 3], dtype=np.uint8), (len(labels), 1)), 1024, axis=1)
        pixels[:, 1] = labels
        key = "labels" if name == "cifar10" else "fine_labels"
        monkeypatch.setattr(made, which, [dump(folder / which, {"data": pixels, key: labels})])
    key = made.meta["key"]
    written = dump(folder / "meta", {key: names})
    monkeypatch.setattr(made, "meta", {"filename": written[0], "md5": written[1], "key": key})
    return name


def test_cifar_is_read_through_torchvision(cifar: str, tmp_path: Path) -> None:
    data = load(cifar, tmp_path, validation=0)
    assert data.title == {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[cifar]
    assert data.input_shape == (3, 32, 32)
    classes = len(data.class_names)
    assert data.train.labels.tolist() == [*range(classes)] * 2
    assert data.test.labels.tolist() == [*range(classes)][::-1]
    assert torch.equal(data.test.images[:, 0, 0, 1].long(), data.test.labels)
    assert data.test.images[0, :, 5, 5].tolist() == [1, 2, 3]
    assert data.hierarchy == named(cifar)


def test_cifar_is_cached_beside_its_files(cifar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(cifar, tmp_path)
    for name in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(torchvision.datasets, name, lambda *_, **__: pytest.fail("read again"))
    assert load(cifar, tmp_path).digest == first.digest
    assert len(list(tmp_path.glob("surgery-cache-*"))) == 1


def test_cifar_is_found_in_a_folder_of_its_own_and_resized(cifar: str, tmp_path: Path) -> None:
    (tmp_path / cifar).mkdir()
    next(tmp_path.glob("cifar-*-*")).rename(tmp_path / cifar / next(tmp_path.glob("cifar-*-*")).name)
    data = load(cifar, tmp_path, image_size=16)
    assert data.input_shape == (3, 16, 16)
    assert data.train.images[0, :, 9, 9].tolist() == [1, 2, 3]


def test_published_files_go_before_image_folders(cifar: str, plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", named(cifar).class_names, 1)
    assert "folders" not in load(cifar, tmp_path).title


def test_a_damaged_file_is_an_error(cifar: str, tmp_path: Path) -> None:
    damaged = next(tmp_path.glob("cifar-*/test_list"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"cifar-.*: CIFAR-10?0 cannot be read: .*corrupted.*\n.*download=True"):
        load(cifar, tmp_path)


def test_stl_is_read_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stl = torchvision.datasets.STL10
    folder = tmp_path / stl.base_folder
    folder.mkdir()
    images = np.zeros((10, 3, 96, 96), dtype=np.uint8)
    images[:, :, 5, 0] = np.arange(10)[:, None]  # column 5, row 0: the files hold columns
    lists = {"train": stl.train_list, "test": stl.test_list}
    for which in lists:
        (folder / f"{which}_X.bin").write_bytes(images.tobytes())
        (folder / f"{which}_y.bin").write_bytes(bytes(range(1, 11)))
    (folder / "unlabeled_X.bin").write_bytes(b"much")
    for which, entries in lists.items():
        monkeypatch.setattr(stl, f"{which}_list", [[name, md5(folder / name)] for name, _ in entries])
    data = load("stl10", tmp_path, validation=0)
    assert data.input_shape == (3, 96, 96)
    assert data.title == "STL-10"
    assert data.train.labels.tolist() == [*range(10)]
    assert data.train.images[:, 2, 0, 5].tolist() == [*range(10)]
    assert data.hierarchy == named("stl10")


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("stl10", "stl10_binary")])
def test_what_was_looked_for_is_said(name: str, folder: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf" not found in {tmp_path}; looked for {folder}/ and train/<class>/.*\n.*download=True"
    ):
        load(name, tmp_path)


def test_download_is_asked_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(place: Path, *, train: bool, download: bool) -> None:
        asked.append((place, download))
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", refuse)
    with pytest.raises(InputError, match="CIFAR-10 cannot be downloaded: no network"):
        load("cifar10", tmp_path, download=True)
    assert asked == [(tmp_path, True)]

"""The images for development, where they are; they stay out of the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgery.data import Dataset, load

PACKS = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not (PACKS / "unpack.py").is_file(), reason=f"no images for development in {PACKS}")
EACH = 8


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first images of each class of CIFAR-10, training and test; unpacking all takes longer than all tests here."""
    root = tmp_path_factory.mktemp("cifar10")
    with np.load(PACKS / "cifar10.npz") as pack:
        payload, offsets, kinds = pack["payload"], pack["payload_offsets"], pack["header_index"]
        headers, starts = pack["headers"], pack["header_offsets"]
        for index, name in enumerate(pack["paths"]):
            path = root / str(name)
            if int(path.stem) % 100000 < EACH:
                path.parent.mkdir(parents=True, exist_ok=True)
                header = headers[starts[kinds[index]] : starts[kinds[index] + 1]]
                path.write_bytes(header.tobytes() + payload[offsets[index] : offsets[index + 1]].tobytes())
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    subprocess.run([sys.executable, str(PACKS / "unpack.py"), str(root), "tiny-imagenet-20"], check=True)
    return root / "tiny-imagenet-20"


def same_as_file(data: Dataset, split: str, index: int, path: Path) -> bool:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return bool((data.splits[split].images[index].numpy() == pixels).all())


def test_cifar_as_jpeg(cifar: Path) -> None:
    data = load("cifar10", cifar, validation=0)
    assert data.title == "CIFAR-10 (JPEG)"
    assert data.test.labels.bincount().tolist() == [EACH] * 10
    assert data.input_shape == (3, 32, 32)
    for label, name in enumerate(data.class_names):
        assert same_as_file(data, "test", label * EACH + 2, sorted((cifar / "test" / name).iterdir())[2])


def test_twenty_classes_of_tiny_imagenet(tiny: Path) -> None:
    data = load("tiny-imagenet", tiny)
    assert data.input_shape == (3, 64, 64)
    assert tuple(len(split) for split in data.splits.values()) == (9500, 500, 1000)
    assert data.validation.labels.bincount().tolist() == [25] * 20
    assert data.test.labels.bincount().tolist() == [50] * 20
    assert data.class_names[:3] == ("Chihuahua", "Yorkshire terrier", "golden retriever")
    first, wnid = (tiny / "val" / "val_annotations.txt").read_text().split("\t")[:2]
    assert data.test.labels[0] == (tiny / "wnids.txt").read_text().split().index(wnid)
    assert same_as_file(data, "test", 0, tiny / "val" / "images" / first)
    again = load("tiny-imagenet", tiny)
    assert again.digest == data.digest

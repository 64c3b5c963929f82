from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from surgery.data import load
from surgery.errors import InputError

WNIDS = ("n03", "n01", "n02")
WORDS = "n01\tcrane, bird\nn02\tcrane\nn03\tdog, domestic dog\nn04\tcat\n"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes with four training images and one in val/; gray levels are 50 times the label in wnids.txt."""
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (tmp_path / "words.txt").write_text(WORDS)
    (tmp_path / "val" / "images").mkdir(parents=True)
    rows = []
    for label, wnid in enumerate(WNIDS):
        image = Image.new("L", (8, 8), 50 * label)
        (tmp_path / "train" / wnid / "images").mkdir(parents=True)
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        for number in range(4):
            image.save(tmp_path / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
        image.save(tmp_path / "val" / "images" / f"val_{label}.JPEG")
        rows.append(f"val_{label}.JPEG\t{wnid}\t0\t1\t63\t47")
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(rows[::-1]) + "\n")
    return tmp_path


def test_labels_follow_wnids_and_names_are_unique(tiny: Path) -> None:
    data = load("tiny-imagenet", tiny, validation=0.25)
    assert data.class_names == ("dog", "crane (n01)", "crane (n02)")
    assert data.title == "Tiny ImageNet (3 classes)"
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 0, 0, 50, 50, 50, 100, 100, 100]
    assert data.validation.labels.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [2, 1, 0]
    assert data.test.images[:, 0, 0, 0].tolist() == [100, 50, 0]


def test_some_classes_are_taken_in_the_given_order(tiny: Path) -> None:
    data = load("tiny-imagenet", tiny, classes=["n02", "n03"], validation=0)
    assert data.class_names == ("crane", "dog")
    assert data.train.images[::4, 0, 0, 0].tolist() == [100, 0]
    assert data.test.labels.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"wnids\.txt: unknown class 'n05'"):
        load("tiny-imagenet", tiny, classes=["n05"])
    with pytest.raises(InputError, match="classes: expected a list of wnids, got 'n02'"):
        load("tiny-imagenet", tiny, classes="n02")


def test_it_is_found_in_a_folder_of_its_own(tiny: Path) -> None:
    (tiny / "tiny-imagenet-200").mkdir()
    for name in ("wnids.txt", "words.txt", "train", "val"):
        (tiny / name).rename(tiny / "tiny-imagenet-200" / name)
    assert load("tiny-imagenet", tiny).num_classes == 3
    with pytest.raises(InputError, match=r"Tiny ImageNet not found in .*; looked for wnids\.txt"):
        load("tiny-imagenet", tiny / "val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val" / "images" / "val_1.JPEG").unlink(), "val/images/val_1.JPEG: no such file"),
        (lambda root: (root / "train" / "n01").rename(root / "train" / "n09"), "n01/images: no such folder"),
        (lambda root: (root / "words.txt").unlink(), "words.txt: no such file"),
        (
            lambda root: (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn03\nval_1.JPEG\tn01\n"),
            "val_annotations.txt: no image of class 'n02'",
        ),
        (
            lambda root: (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn03\nval_1.JPEG\n"),
            "val_annotations.txt:2: expected the name of an image",
        ),
        (lambda root: (root / "wnids.txt").write_text("n01\nn01\n"), "both called 'crane"),
    ],
)
def test_what_is_missing_is_named(tiny: Path, change, message: str) -> None:
    change(tiny)
    with pytest.raises(InputError, match=message):
        load("tiny-imagenet", tiny)

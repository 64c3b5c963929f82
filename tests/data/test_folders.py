from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from surgery.data import load
from surgery.data.decoding import SUFFIXES, decode, resize
from surgery.errors import InputError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("surgery-cache-*.safetensors"))


def test_classes_are_folders_and_images_are_files_by_name(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", ["b", "a"], 3)
    plant(tmp_path / "test", ["b", "a"], 1)
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "a" / "._000.png").write_text("what some systems leave")
    (tmp_path / "train" / ".hidden").mkdir()
    data = load("folder", tmp_path, validation=0)
    assert data.class_names == ("a", "b")
    assert data.title == f"{tmp_path.name} (image folders)"
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [10, 11, 12, 0, 1, 2]
    assert data.test.images[:, 2, 3, 3].tolist() == [10, 0]
    assert data.hierarchy is None


@pytest.mark.parametrize(
    ("folders", "validation", "sizes"),
    [
        (("train",), 0, (16, 0, 4)),
        (("train", "val"), 0.1, (18, 2, 20)),
        (("train", "test"), 0.1, (18, 2, 20)),
        (("train", "test", "val"), 0.1, (20, 20, 20)),
        (("train", "test", "val"), 0, (20, 0, 20)),
    ],
)
def test_splits_come_from_folders_or_are_held_out(plant, tmp_path: Path, folders, validation, sizes) -> None:
    for name in folders:
        plant(tmp_path / name, ["a", "b"], 10)
    data = load("folder", tmp_path, validation=validation)
    assert tuple(len(split) for split in data.splits.values()) == sizes
    assert data.test.labels.bincount().tolist() == [sizes[2] // 2] * 2


def test_held_out_test_images_do_not_depend_on_the_seed(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", ["a", "b"], 10)
    first, other = load("folder", tmp_path, seed=0), load("folder", tmp_path, seed=1)
    assert first.test.digest == other.test.digest


def test_labels_follow_the_classes_of_the_data_set(plant, tmp_path: Path) -> None:
    for which, count in (("train", 2), ("test", 1)):
        plant(tmp_path / "cifar10" / which, CIFAR10, count)
    data = load("cifar10", tmp_path, validation=0)
    assert data.title == "CIFAR-10 (image folders)"
    assert data.class_names == CIFAR10
    assert data.test.labels.tolist() == list(range(10))
    assert data.test.images[:, 0, 0, 0].tolist() == [10 * label for label in range(10)]
    assert data.hierarchy is not None
    assert data.hierarchy.names == ("non-animals", "animals")
    assert load("cifar10", tmp_path / "cifar10", validation=0).digest == data.digest


def test_a_missing_or_unknown_class_is_named(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", CIFAR10[:-1], 1)
    plant(tmp_path / "test", CIFAR10, 1)
    with pytest.raises(InputError, match="train: class 'truck' has no folder here"):
        load("cifar10", tmp_path)
    plant(tmp_path / "train", ["trucks"], 1)
    with pytest.raises(InputError, match=r"train/trucks: unknown class 'trucks'\n.*did you mean 'truck'"):
        load("cifar10", tmp_path)


def test_a_class_without_images_is_named(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", ["a", "b"], 2)
    (tmp_path / "train" / "c").mkdir()
    with pytest.raises(InputError, match="train/c: no images here"):
        load("folder", tmp_path)
    plant(tmp_path / "train", ["c"], 2)
    plant(tmp_path / "test", ["a", "b"], 2)
    with pytest.raises(InputError, match="test: class 'c' has no folder here"):
        load("folder", tmp_path)


def test_folders_that_are_not_there_are_named(plant, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no folder train/ here\n.*train/NAME"):
        load("folder", tmp_path / "none")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="train: no folders here; expected one for each class"):
        load("folder", tmp_path)
    plant(tmp_path / "train", CIFAR10, 1)
    with pytest.raises(InputError, match="expected a folder test/ next to train/"):
        load("cifar10", tmp_path)


def broken(path: Path, how: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    wrong = {
        "text": b"no image at all",
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "header": content[:20] + b"\xff" * 40 + content[60:],
    }
    path.write_bytes(wrong[how])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("how", ["text", "empty", "truncated", "header"])
def test_an_image_that_cannot_be_read_is_named(plant, tmp_path: Path, how: str, suffix: str) -> None:
    plant(tmp_path / "train", ["a", "b"], 3, size=(32, 32))
    broken(tmp_path / "train" / "b" / f"001.{suffix}", how)
    with pytest.raises(InputError, match=rf"train/b/001.{suffix}: not an image that can be read: \S") as caught:
        load("folder", tmp_path)
    assert caught.value.__suppress_context__
    assert caught.value.message.count("001.") == 1
    assert caches(tmp_path) == []


def test_an_image_of_another_size_is_named_and_can_be_resized(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", ["a", "b"], 3)
    Image.new("RGB", (6, 4), (9, 9, 9)).save(tmp_path / "train" / "b" / "001.png")
    with pytest.raises(InputError, match=r"b/001.png: expected 4 x 4 .* as in .*a/000.png, got 6 x 4\n.*image_size"):
        load("folder", tmp_path)
    data = load("folder", tmp_path, image_size=8)
    assert data.input_shape == (3, 8, 8)
    assert 9 in data.train.images.flatten().tolist() + data.test.images.flatten().tolist()


def test_the_middle_of_an_oblong_image_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, 2:6] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert decode([tmp_path / "wide.png"], image_size=4).unique().tolist() == [200]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("RGBA", (10, 20, 30, 0), [10, 20, 30]),
        ("LA", (40, 100), [40, 40, 40]),
        ("P", 0, [0, 0, 0]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
    ],
)
def test_all_kinds_of_eight_bit_images_become_rgb(tmp_path: Path, mode: str, value, expected: list[int]) -> None:
    Image.new(mode, (2, 2), value).save(tmp_path / "image.png")
    found = decode([tmp_path / "image.png"])
    assert found.shape == (1, 3, 2, 2)
    assert found[0, :, 1, 1].tolist() == expected


MODES = {".jpg": ["L", "RGB"], ".jpeg": ["L", "RGB"], ".pgm": ["L"], ".ppm": ["L", "RGB"], ".webp": ["RGB"]}


@pytest.mark.parametrize(
    ("suffix", "mode"), [(suffix, mode) for suffix in SUFFIXES for mode in MODES.get(suffix, ["1", "L", "P", "RGB"])]
)
def test_images_of_eight_bits_are_read_in_all_formats(tmp_path: Path, suffix: str, mode: str) -> None:
    Image.new("RGB", (300, 290), (200, 200, 200)).convert(mode).save(tmp_path / f"image{suffix}")
    assert decode([tmp_path / f"image{suffix}"]).shape == (1, 3, 290, 300)


def test_a_palette_with_transparency_is_read(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([50, 60, 70])
    image.save(tmp_path / "image.png", transparency=bytes([0]))
    assert decode([tmp_path / "image.png"])[0, :, 0, 0].tolist() == [50, 60, 70]


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 40000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: expected an image of eight bits a channel, got .*'I;16'"):
        decode([tmp_path / "deep.png"])


def test_many_images_stay_in_order(plant, tmp_path: Path) -> None:
    plant(tmp_path, ["a"], 250)
    files = sorted((tmp_path / "a").iterdir()) * 2
    assert decode(files)[:, 0, 0, 0].tolist() == list(range(250)) * 2


def test_tensors_are_resized_as_files_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    tensor = decode([tmp_path / "image.png"])
    assert torch.equal(resize(tensor, 5), decode([tmp_path / "image.png"], image_size=5))
    assert torch.equal(resize(tensor[:, :1], 5), resize(tensor, 5)[:, :1])
    assert resize(tensor, 7) is tensor


def test_images_are_decoded_once(plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)
    first = load("folder", tmp_path)
    assert len(caches(tmp_path)) == 1
    assert caches(tmp_path)[0].stat().st_mode & 0o777 == (tmp_path / "train" / "a" / "000.png").stat().st_mode & 0o777
    monkeypatch.setattr("surgery.data.folders.decode", lambda *_, **__: pytest.fail("decoded again"))
    assert load("folder", tmp_path).digest == first.digest
    assert not list(tmp_path.glob(".surgery-cache*"))


def test_changed_files_are_decoded_anew(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)
    first = load("folder", tmp_path)
    changed = tmp_path / "train" / "b" / "000.png"
    Image.new("RGB", (4, 4), (99, 99, 99)).save(changed)
    os.utime(changed, (1, 1))
    second = load("folder", tmp_path)
    assert second.digest != first.digest
    (tmp_path / "train" / "b" / "001.png").rename(tmp_path / "train" / "b" / "009.png")
    load("folder", tmp_path)
    load("folder", tmp_path, image_size=3)
    assert len(caches(tmp_path)) == 4


def test_a_broken_cache_is_replaced(plant, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)
    first = load("folder", tmp_path)
    [cache] = caches(tmp_path)
    whole = cache.read_bytes()
    cache.write_bytes(whole[:-9])
    with caplog.at_level(logging.WARNING):
        assert load("folder", tmp_path).digest == first.digest
    assert "is replaced" in caplog.text
    assert cache.read_bytes() == whole


def test_a_cache_with_other_numbers_is_replaced(plant, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)
    first = load("folder", tmp_path)
    [cache] = caches(tmp_path)
    whole = cache.read_bytes()
    cache.write_bytes(whole[:-9] + bytes([whole[-9] ^ 64]) + whole[-8:])
    with caplog.at_level(logging.WARNING):
        assert load("folder", tmp_path).digest == first.digest
    assert "its content is not what was written" in caplog.text
    assert cache.read_bytes() == whole


def test_changed_files_of_the_same_size_and_time_are_decoded_again(plant, tmp_path: Path) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)
    first = load("folder", tmp_path)
    changed, other = tmp_path / "train" / "b" / "000.png", tmp_path / "train" / "b" / "001.png"
    before, content = changed.stat(), other.read_bytes()
    assert len(content) == before.st_size
    changed.write_bytes(content)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load("folder", tmp_path).digest != first.digest


def test_images_are_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[0, 0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is on the right
    for suffix in ("png", "webp"):
        Image.fromarray(pixels).save(tmp_path / f"image.{suffix}", exif=exif, lossless=True)
        found = decode([tmp_path / f"image.{suffix}"])
        assert found.shape == (1, 3, 4, 2)
        assert found[0, 0, 0, 1] == 200


def test_a_folder_that_cannot_be_written_is_read_without_a_cache(
    plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Permissions do not hold for root, who may be running this.
    monkeypatch.setattr("surgery.data.caching.Path.touch", refuse)
    with caplog.at_level(logging.INFO):
        assert len(load("folder", tmp_path).train)
    assert "decoded images are not kept" in caplog.text
    assert caches(tmp_path) == []


def test_a_write_that_fails_leaves_nothing_behind(plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "train", ["a", "b"], 5)

    def fill_the_disk(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("surgery.data.caching.save_file", fill_the_disk)
    assert len(load("folder", tmp_path).train)
    assert [path.name for path in tmp_path.iterdir()] == ["train"]

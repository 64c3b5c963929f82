"""Paths that cannot be read, digests of files, and names that are safe to print."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from surgery.errors import InputError, printable
from surgery.files import existing_file, sha256_of


def dangling(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "gone.pt")
    return folder / "link"


def circle(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def inside_a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file" / "model.pt"


def neighbor(folder: Path) -> Path:
    (folder / "resnet18.pt").write_text("x")
    return folder / "resnet81.pt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dangling, "a link to .*gone.pt, which does not exist"),
        (circle, "cannot be opened: Too many levels of symbolic links"),
        (pipe, "got a pipe"),
        (inside_a_file, "cannot be opened: Not a directory"),
        (neighbor, "no such file\n  hint: did you mean 'resnet18.pt'"),
        (lambda folder: folder / ("x" * 5000), r"5\d* characters.*cannot be opened: File name too long"),
        (lambda folder: folder / "a\0b", r"a\\x00b: cannot be opened"),
        (lambda folder: folder, "got a folder"),
        (lambda folder: Path("/dev/zero"), "got a pipe or a device"),
    ],
)
def test_path_that_is_no_readable_file_is_an_input_error(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        existing_file(make(tmp_path))


def test_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
    with pytest.raises(InputError, match="no such file"):
        sha256_of(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("layer1.0.conv", "layer1.0.conv"),
        ("Dächer 猫", "Dächer 猫"),
        ("\x1b[31mred\nnext\x07", r"\x1b[31mred\nnext\x07"),
        ("a\u202eb", r"a\u202eb"),
        ("x" * 600_000, f"{'x' * 80}...{'x' * 40} (600000 characters)"),
    ],
)
def test_names_are_printed_on_one_line_without_control_characters(name: str, shown: str) -> None:
    assert printable(name) == shown

"""Damaged, malicious and unusual images: one message that names the file, within seconds and little memory."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgery.data import load
from surgery.errors import InputError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(x) print\n%%EOF\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, bits: int = 8, color: int = 2, pixels: bytes = b"") -> bytes:
    """A PNG with such a header; `pixels` may be too few."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(bits: int) -> bytes:
    """A TIFF of 4 x 4 pixels with three channels of so many bits."""
    entries = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140),
        (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, 48 * bits // 8), (284, 3, 1, 1),
    ]  # fmt: skip
    fields = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value))
        for tag, kind, count, value in entries
    )
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + fields + struct.pack("<I", 0)
    assert len(head) == 134
    return head + struct.pack("<HHH", bits, bits, bits) + bytes(48 * bits // 8)


def sixteen_bits(color: int, channels: int) -> bytes:
    return png(4, 4, bits=16, color=color, pixels=(b"\0" + bytes(8 * channels)) * 4)


WHOLE = png(4, 4, pixels=(b"\0" + bytes(12)) * 4)

CASES: dict[str, tuple[str, bytes, str]] = {
    "EPS that Pillow would give to Ghostscript": ("x.png", EPS, "its format is none of BMP"),
    "PDF": ("x.png", b"%PDF-1.4\n", "its format is none of"),
    "GIF": ("x.png", b"GIF89a" + bytes(20), "its format is none of"),
    "SVG": ("x.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "its format is none of"),
    "nothing": ("x.png", b"", "not an image that can be read"),
    "text": ("x.jpg", b"hello", "not an image that can be read"),
    "a PNG that ends in its header": ("x.png", WHOLE[:30], "not an image that can be read"),
    "a PNG that ends in its pixels": ("x.png", WHOLE[:-30], "not an image that can be read"),
    "a PNG with too few pixels": ("x.png", png(4, 4, pixels=bytes(9)), "not an image that can be read"),
    "a bomb of 400 million pixels": ("x.png", png(20_000, 20_000), "not an image that can be read"),
    "a bomb of 100 million pixels": ("x.png", png(10_000, 10_000), "pixels, got 10000 x 10000"),
    "2^31 pixels wide": ("x.png", png(2**31 - 1, 1), "not an image that can be read"),
    "no pixels wide": ("x.png", png(0, 4), "not an image that can be read"),
    "48 bits": ("x.png", sixteen_bits(2, 3), "eight bits a channel"),
    "64 bits with transparency": ("x.png", sixteen_bits(6, 4), "eight bits a channel"),
    "32 bits of gray and transparency": ("x.png", sixteen_bits(4, 2), "eight bits a channel"),
    "16 bits of gray": ("x.png", sixteen_bits(0, 1), "eight bits a channel"),
    "a PPM of 48 bits": ("x.ppm", b"P6 4 4 65535\n" + bytes(96), "eight bits a channel"),
    "a plain PPM of 48 bits": ("x.ppm", b"P3 1 1 65535\n0 0 65535", "eight bits a channel"),
    "a TIFF of 48 bits": ("x.tif", tiff(16), "eight bits a channel"),
}


def data_with(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of two classes; the second has the hostile file after a proper one."""
    for label in ("a", "b"):
        (folder / "train" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(folder / "train" / label / "0.png")
    make(folder / "train" / "b" / name)
    return folder


@pytest.fixture(autouse=True)
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        pytest.fail(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(subprocess, "check_call", refuse)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", CASES)
def test_one_message_names_the_file(tmp_path: Path, case: str) -> None:
    name, content, message = CASES[case]
    folder = data_with(tmp_path, name, lambda path: path.write_bytes(content))
    with pytest.raises(InputError, match=f"train/b/{name}.*{message}"):
        load("folder", folder)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "got a link to nothing, a pipe or a device"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "got a link to nothing, a pipe or a device"),
    "a link to nothing": (lambda path: path.symlink_to("nothing.png"), "got a link to nothing, a pipe or a device"),
    "a folder": (Path.mkdir, "got a folder"),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_what_is_no_file_is_refused(tmp_path: Path, case: str) -> None:
    make, message = SPECIAL[case]
    with pytest.raises(InputError, match=rf"train/b/x\.png: expected an image file, {message}"):
        load("folder", data_with(tmp_path, "x.png", make))


def test_images_that_do_not_fit_into_the_memory_are_refused_with_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.data.decoding._memory", lambda: 50.0)
    with pytest.raises(InputError, match=r"2 images of 4 x 4 pixels take 0.0 GiB; this machine has"):
        load("folder", data_with(tmp_path, "0.png", lambda path: None))


def test_images_of_eight_bits_in_the_same_formats_are_read(tmp_path: Path) -> None:
    for number, content in enumerate((WHOLE, tiff(8), b"P6 4 4 255\n" + bytes(48), b"P6 4 4 15\n" + bytes(48))):
        suffix = ("png", "tif", "ppm", "ppm")[number]
        folder = data_with(
            tmp_path / str(number), f"x.{suffix}", lambda path, content=content: path.write_bytes(content)
        )
        assert load("folder", folder).input_shape == (3, 4, 4)

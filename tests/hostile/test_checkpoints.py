"""Checkpoints and state dicts, damaged or malicious: one located error within seconds, and bounded memory."""

from __future__ import annotations

import json
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from surgery.errors import ModelFileError
from surgery.models import build, load_model, open_model, read_checkpoint

Header = dict[str, Any]
SMALL = {"num_classes": 4, "width": 4}


def checkpoint(**entries: Any) -> Header:
    return {"format": "surgery-checkpoint", "version": 1, "architecture": "resnet18", "arguments": SMALL, **entries}


def written(path: Path, entry: object) -> Path:
    """A checkpoint with the weights of a small network and this entry in its header."""
    text = entry if isinstance(entry, str) else json.dumps(entry)
    state = {name: tensor.clone() for name, tensor in build("resnet18", **SMALL).state_dict().items()}
    safetensors.torch.save_file(state, path, metadata={"surgery": text})
    return path


def raw(path: Path, header: bytes, size: int | None = None, data: bytes = b"") -> Path:
    """A safetensors file of these bytes."""
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + data)
    return path


LONG = "n" * 600_000
FLAT = b'{"x":{"dtype":"F32","shape":%s,"data_offsets":[0,4]}}'

CHECKPOINTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "weights of 9 GB": (lambda path: written(path, checkpoint(arguments={"width": 1000})), "conv1.weight should be"),
    "weights of terabytes": (lambda path: written(path, checkpoint(arguments={"width": 10**9})), "far larger"),
    "width of many digits": (lambda path: written(path, checkpoint(arguments={"width": 10**30})), "cannot be built"),
    "width as text": (lambda path: written(path, checkpoint(arguments={"width": "x" * 10**6})), "width must be"),
    "classes": (
        lambda path: written(path, checkpoint(arguments={**SMALL, "num_classes": 10**8})),
        "linear.weight should",
    ),
    "depth": (
        lambda path: written(
            path, checkpoint(architecture="timm:vit_tiny_patch16_224", arguments={"depth": 10**5, "embed_dim": 3})
        ),
        "far larger|timm",
    ),
    "without a sketch": (
        lambda path: written(
            path, checkpoint(architecture="torchvision:regnet_y_400mf", arguments={"stem_width": 10**8})
        ),
        "far larger|regnet",
    ),
    "unknown argument": (lambda path: written(path, checkpoint(arguments={LONG: 1})), "resnet18"),
    "architecture": (lambda path: written(path, checkpoint(architecture=LONG)), "unknown architecture"),
    "escape sequence": (lambda path: written(path, checkpoint(architecture="\x1b[31m")), r"\\x1b\[31m"),
    "shape": (lambda path: written(path, checkpoint(input_shape=[3] * 10**5)), "input_shape should be"),
    "version": (lambda path: written(path, checkpoint(version=True)), "version"),
    "version as text": (lambda path: written(path, checkpoint(version="1")), "version"),
    "nested entry": (lambda path: written(path, "[" * 100_000 + "]" * 100_000), "not JSON"),
    "entry of many digits": (lambda path: written(path, '{"format": ' + "9" * 10_000 + "}"), "not JSON|digits"),
    "nested header": (lambda path: raw(path, b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "not JSON"),
    "header beyond the file": (lambda path: raw(path, b"{}", size=50_000_000), "the header should have 50000000 bytes"),
    "long header": (lambda path: raw(path, b'{"a":"' + b" " * 40_000_000 + b'"}'), "expected at most 33554432"),
    "list as header": (lambda path: raw(path, b'{"__metadata__":[1]}'), "metadata should be texts"),
    "number as metadata": (lambda path: raw(path, b'{"__metadata__":{"surgery":7}}'), "damaged"),
    "name of a tensor": (
        lambda path: raw(path, FLAT.replace(b"x", LONG.encode(), 1) % b"[1]", data=bytes(4)),
        "expected at most 1000 characters",
    ),
    "shape without bytes": (lambda path: raw(path, FLAT % b"[1000000,1000000]", data=bytes(4)), "damaged"),
    "shape of many digits": (lambda path: raw(path, FLAT % b"[99999999999999999999999]", data=bytes(4)), "damaged"),
    "negative shape": (lambda path: raw(path, FLAT % b"[-1]", data=bytes(4)), "damaged"),
    "empty shape": (lambda path: raw(path, FLAT % b"[0,4611686018427387904,4]", data=bytes(4)), "damaged"),
}  # fmt: skip


def refused(path: Path, message: str, **options: Any) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ModelFileError, match=message) as caught:
        open_model(path, **options)
    assert str(path) in caught.value.message
    assert len(str(caught.value)) < 3000
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 800_000, "kilobytes"


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_hostile_checkpoint_is_one_located_error(tmp_path: Path, case: str) -> None:
    make, message = CHECKPOINTS[case]
    refused(make(tmp_path / "a.safetensors"), message)


def chain(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"x": torch.ones(1)}
    for _ in range(depth):
        value = {"model": value}
    return value


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {"x": torch.ones(1)}
    value["model"] = value
    return value


STATES: dict[str, tuple[Callable[[], object], str]] = {
    "name of a tensor": (lambda: {LONG: torch.ones(1)}, "expected at most 1000 characters"),
    "name of an entry": (lambda: {"x": torch.ones(1), LONG: 3}, r"\.\.\.n+ \(600000 characters\) \(int\)"),
    "escape sequence": (lambda: {"\x1b[31m": torch.ones(1)}, r"unexpected, 1: \\x1b\[31m"),
    "many names": (lambda: {f"layer{i}.conv": torch.ones(1) for i in range(20_000)}, "unexpected, 20000"),
    "nested entries": (lambda: chain(100), "nested more than"),
    "entries in a circle": (circle, "nested more than"),
    "one number shown as terabytes": (lambda: {"x": torch.ones(1).expand(10**6, 10**6)}, "expected the values"),
    "sparse": (lambda: {"x": torch.eye(3).to_sparse()}, "expected the values"),
    "no values": (lambda: {"x": torch.empty(10**9, device="meta")}, "expected the values"),
    "quantized": (
        lambda: {"x": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
        "expected the values|damaged|Inside",
    ),
    "numbers as names": (lambda: {3: torch.ones(1), (1, 2): torch.ones(1)}, "unexpected, 2: 3"),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", STATES)
def test_hostile_state_dict_is_one_located_error(tmp_path: Path, case: str) -> None:
    make, message = STATES[case]
    torch.save(make(), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", message, architecture="resnet18", arguments=SMALL)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_expanded_buffer_of_a_network_is_still_read(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    state = build("resnet18", **SMALL).state_dict()
    state["bn1.weight"] = torch.tensor([0.5]).expand(4)
    torch.save(wrap(state), tmp_path / "a.pt")
    loaded = load_model(tmp_path / "a.pt", architecture="resnet18", arguments=SMALL)
    assert torch.equal(loaded.state_dict()["bn1.weight"], torch.full((4,), 0.5))


@pytest.mark.parametrize("kept", [0, 5, 8, 300, -1])
def test_truncated_checkpoint_names_its_file(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path / "a.safetensors", checkpoint())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"a\.safetensors: "):
        read_checkpoint(path)

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from surgery.errors import InputError, ModelFileError
from surgery.models import Checkpoint, build, load_model, open_model, read_checkpoint, save_checkpoint

ARGUMENTS = {"num_classes": 4, "width": 4}


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(
        architecture="resnet18",
        arguments=ARGUMENTS,
        input_shape=(3, 32, 32),
        class_names=("cat", "dög", "猫", "d"),
        extra={"epoch": 3, "scores": {"natural": 0.5}},
        state=build("resnet18", **ARGUMENTS).state_dict(),
    )


def test_round_trip_is_exact(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a.ckpt", checkpoint)
    read = read_checkpoint(tmp_path / "a.ckpt")
    assert replace(read, state={}) == replace(checkpoint, state={})
    assert read.state.keys() == checkpoint.state.keys()
    for name, tensor in checkpoint.state.items():
        torch.testing.assert_close(read.state[name], tensor, rtol=0, atol=0)


def test_opened_checkpoint_computes_what_the_saved_module_computed(tmp_path: Path) -> None:
    module = build("vgg11_bn", **ARGUMENTS).eval()
    names = ("a", "b", "c", "d")
    save_checkpoint(
        tmp_path / "a.safetensors",
        Checkpoint(architecture="vgg11_bn", arguments=ARGUMENTS, class_names=names, state=module.state_dict()),
    )
    opened = open_model(tmp_path / "a.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.module(images), module(images))
    assert not opened.module.training
    assert opened.class_names == names
    assert opened.input_shape == (3, 32, 32), "not in the file: the architecture's own"
    assert opened.source == "surgery checkpoint vgg11_bn"


def test_dict_of_torch_save_with_the_same_entries_is_a_checkpoint_too(tmp_path: Path) -> None:
    module = build("resnet18", **ARGUMENTS)
    entries = {"architecture": "resnet18", "arguments": ARGUMENTS, "input_shape": (3, 64, 64), "class_names": None}
    torch.save({**entries, "state_dict": module.state_dict()}, tmp_path / "a.pt")
    opened = open_model(tmp_path / "a.pt")
    assert torch.equal(opened.module.state_dict()["linear.weight"], module.state_dict()["linear.weight"])
    assert opened.input_shape == (3, 64, 64)
    assert opened.source == "surgery checkpoint resnet18"


def test_shared_and_strided_tensors_are_stored_as_they_read(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    state = {"a": weight, "tied": weight, "transposed": weight.T, "row": weight[1], "scalar": torch.tensor(3)}
    save_checkpoint(tmp_path / "a", Checkpoint(architecture="resnet18", state=state))
    read = read_checkpoint(tmp_path / "a").state
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(path, replace(checkpoint, extra={"epoch": 4}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_gets_the_usual_permissions(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a.ckpt", checkpoint)
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a.ckpt").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_missing_folder_is_an_input_error(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="does not exist"):
        save_checkpoint(tmp_path / "absent" / "a.ckpt", checkpoint)


@pytest.mark.parametrize(
    "change", [{"extra": {"x": torch.ones(2)}}, {"extra": {"x": float("nan")}}, {"state": {"x": 3}}]
)
def test_what_cannot_be_stored_is_an_input_error_and_leaves_no_file(
    tmp_path: Path, checkpoint: Checkpoint, change: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        save_checkpoint(tmp_path / "a.ckpt", replace(checkpoint, **change))
    assert not list(tmp_path.iterdir())


def write(path: Path, header: object) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    safetensors.torch.save_file({"x": torch.ones(1)}, path, metadata={"surgery": text})
    return path


def test_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"format": "surgery-checkpoint", "version": 2, "architecture": "resnet18"})
    with pytest.raises(ModelFileError, match="version 2; this surgery reads up to version 1") as caught:
        read_checkpoint(path)
    assert "update surgery" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("architecture", None),
        ("arguments", [1]),
        ("input_shape", [3, 32]),
        ("input_shape", [3, 32, "x"]),
        ("class_names", "cat"),
        ("extra", 3),
    ],
)
def test_malformed_entry_is_named(tmp_path: Path, entry: str, value: object) -> None:
    header = {"format": "surgery-checkpoint", "version": 1, "architecture": "resnet18", entry: value}
    with pytest.raises(ModelFileError, match=f"{entry} should be"):
        read_checkpoint(write(tmp_path / "a", header))


@pytest.mark.parametrize("header", ["{", "[]"])
def test_broken_header_is_a_model_file_error(tmp_path: Path, header: str) -> None:
    with pytest.raises(ModelFileError, match="surgery"):
        read_checkpoint(write(tmp_path / "a", header))


def test_other_files_are_not_checkpoints(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.ones(1)}, tmp_path / "plain.safetensors")
    torch.save({"x": torch.ones(1)}, tmp_path / "plain.pt")
    for path in tmp_path.iterdir():
        with pytest.raises(ModelFileError, match="not a surgery checkpoint"):
            read_checkpoint(path)


def test_checkpoint_of_another_architecture_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a.ckpt", checkpoint)
    with pytest.raises(ModelFileError, match="a checkpoint of resnet18, not of vgg16"):
        load_model(tmp_path / "a.ckpt", architecture="vgg16")


def test_checkpoint_of_an_unknown_architecture_names_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(architecture="resnet19", state={"x": torch.ones(1)}))
    with pytest.raises(ModelFileError, match=r"a\.ckpt: resnet19: unknown architecture"):
        load_model(tmp_path / "a.ckpt")


def test_checkpoint_cannot_ask_for_other_files(tmp_path: Path) -> None:
    arguments = {"checkpoint_path": "other.pt"}
    save_checkpoint(
        tmp_path / "a.ckpt", Checkpoint(architecture="timm:resnet18", arguments=arguments, state={"x": torch.ones(1)})
    )
    with pytest.raises(ModelFileError, match="checkpoint_path would load weights"):
        load_model(tmp_path / "a.ckpt")


def test_checkpoint_without_weights_does_not_fit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(architecture="resnet18", arguments={"width": 4}, state={}))
    with pytest.raises(ModelFileError, match="missing, 102"):
        load_model(tmp_path / "a.ckpt")

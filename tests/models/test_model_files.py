from __future__ import annotations

import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import surgery.graph
from surgery.errors import InputError, ModelFileError
from surgery.models import build, load_model, open_model

SMALL = {"num_classes": 4, "width": 4}
LEGACY = {"_use_new_zipfile_serialization": False}


class Payload:
    """Unpickled, it makes a folder: the harmless stand-in for code in a model file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def module() -> nn.Module:
    return build("resnet18", **SMALL).eval()


def saved(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def refusal(path: Path | None, **options: Any) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        open_model(path, **options)
    assert "Traceback" not in str(caught.value)
    return caught.value


# Nothing in a file is run


@pytest.mark.parametrize("options", [{}, LEGACY, {"pickle_protocol": 4}, {**LEGACY, "pickle_protocol": 4}])
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"state_dict": {"x": torch.ones(1)}, "args": evil}])
def test_pickle_that_would_make_a_folder_does_not(
    tmp_path: Path, options: dict[str, Any], wrap: Callable[[Any], Any]
) -> None:
    target = tmp_path / "made"
    path = saved(tmp_path / "evil.pt", wrap(Payload(target)), **options)
    error = refusal(path, architecture="resnet18")
    assert "posix.mkdir" in error.message or "nt.mkdir" in error.message
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the payload itself works"


@pytest.mark.parametrize("name", ["evil.safetensors", "evil.pt2", "evil"])
def test_extension_does_not_open_another_way_in(tmp_path: Path, name: str) -> None:
    target = tmp_path / "made"
    refusal(saved(tmp_path / name, Payload(target)))
    assert not target.exists()


def test_plain_pickle_is_not_run_either(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "made")))
    assert "mkdir" in refusal(path, architecture="resnet18").message
    assert not (tmp_path / "made").exists()


def test_environment_cannot_switch_the_protection_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    refusal(saved(tmp_path / "evil.pt", Payload(tmp_path / "made")))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("options", [{}, LEGACY, {"pickle_protocol": 4}])
def test_pickled_module_is_refused_with_its_classes_and_the_ways_out(
    tmp_path: Path, module: nn.Module, options: dict[str, Any]
) -> None:
    error = refusal(saved(tmp_path / "a.pt", module, **options))
    assert "whole pickled module" in error.message
    assert "surgery.models.resnet.ResNet" in error.message
    for way_out in ("torch.save(model.state_dict(), file)", "torch.export", "`trust_pickle=True`"):
        assert way_out in (error.hint or "")


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"model": module, "epoch": 3}])
def test_pickled_module_is_run_when_trusted(tmp_path: Path, module: nn.Module, wrap: Callable[[Any], Any]) -> None:
    opened = open_model(saved(tmp_path / "a.pt", wrap(module.train())), trust_pickle=True)
    images = torch.rand(1, 3, 32, 32)
    assert not opened.module.training
    assert torch.equal(opened.module(images), module.eval()(images))
    assert opened.source == "pickled module ResNet, run because it was trusted"


def test_trusted_pickle_without_its_class_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(
        saved(path, nn.Identity(), **LEGACY).read_bytes().replace(b"nn.modules.linear", b"nn.modules.absent")
    )
    error = refusal(path, trust_pickle=True)
    assert "torch.nn.modules.absent" in error.message
    assert "classes" in (error.hint or "")


# Kinds of file, whatever they are called


@pytest.mark.parametrize("options", [{}, LEGACY, "safetensors"])
@pytest.mark.parametrize("name", ["weights", "weights.pt2", "weights.safetensors", "weights.png"])
def test_state_dict_is_recognized_by_its_content(tmp_path: Path, module: nn.Module, options: Any, name: str) -> None:
    path = tmp_path / name
    if options == "safetensors":
        safetensors.torch.save_file(module.state_dict(), path)
    else:
        saved(path, module.state_dict(), **options)
    opened = open_model(path, architecture="resnet18", arguments=SMALL)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.module(images), module(images))
    assert opened.input_shape == (3, 32, 32)
    assert opened.source == "state dict of resnet18"


def test_saved_graph_is_opened_without_its_class(tmp_path: Path, module: nn.Module) -> None:
    images = torch.rand(2, 3, 32, 32)
    surgery.graph.save_graph(surgery.graph.trace(module, images), tmp_path / "graph.pt")
    opened = open_model(tmp_path / "graph.pt")
    assert torch.equal(opened.module(images), module(images))
    assert opened.input_shape == (3, 32, 32)
    with pytest.raises(InputError, match="omit vgg16"):
        open_model(tmp_path / "graph.pt", architecture="vgg16")


FOREIGN = {
    "PNG image": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "web page": b"\n<!DOCTYPE html><html><body>Not found</body></html>",
    "'epoch,loss'": b"epoch,loss\n1,0.5\n",
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "ONNX": b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(50),
    "the bytes 00 01 02": bytes(range(256)),
    "tar archive": bytes(257) + b"ustar" + bytes(250),
}


@pytest.mark.parametrize("looks", FOREIGN)
def test_foreign_file_is_told_by_its_looks(tmp_path: Path, looks: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(FOREIGN[looks])
    error = refusal(path, architecture="resnet18")
    assert looks in error.message
    assert "not" in error.message
    if "lfs" in looks:
        assert "git lfs pull" in (error.hint or "")


@pytest.mark.parametrize("producer", ["pytorch", "skl2onnx", "my tool", ""])
def test_onnx_is_refused_with_what_to_do(tmp_path: Path, producer: str) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["x2"])], "g", [value], [value])
    onnx.save(onnx.helper.make_model(graph, producer_name=producer), tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt", architecture="resnet18")
    assert "an ONNX file, which surgery writes but does not read" in error.message
    assert "torch.export.save" in (error.hint or "")


def test_other_zip_archive_is_told_by_its_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    assert "word/document.xml" in refusal(tmp_path / "a.pt").message


def test_torchscript_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates writing such files; reading old ones is the point
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert "TorchScript" in error.message
    assert "torch.jit.load(file).state_dict()" in (error.hint or "")
    assert "torch.export.save(torch.export.export(model, (x,))" in (error.hint or "")


def test_absent_empty_and_folder(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pt").write_bytes(b"")
    missing = refusal(tmp_path / "resnet81.pt")
    assert "no such file" in missing.message
    assert "resnet18.pt" in (missing.hint or "")
    assert "empty" in refusal(tmp_path / "resnet18.pt").message
    assert "folder" in refusal(tmp_path).message


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [9, 60, 700, 0.5, -8])
def test_truncated_file_is_one_clear_error(tmp_path: Path, module: nn.Module, kind: str, kept: float) -> None:
    path = tmp_path / "a.pt"
    if kind == "safetensors":
        safetensors.torch.save_file(module.state_dict(), path)
    else:
        saved(path, module.state_dict(), **({} if kind == "zip" else LEGACY))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    error = refusal(path, architecture="resnet18", arguments=SMALL)
    assert any(word in error.message for word in ("truncated", "damaged", "its end is missing"))


def test_damaged_middle_of_a_zip_is_one_clear_error(tmp_path: Path, module: nn.Module) -> None:
    content = bytearray(saved(tmp_path / "a.pt", module.state_dict()).read_bytes())
    start = content.index(b"data.pkl")
    content[start + 20 : start + 400] = os.urandom(380)
    (tmp_path / "a.pt").write_bytes(content)
    assert "damaged" in refusal(tmp_path / "a.pt", architecture="resnet18", arguments=SMALL).message


def test_safetensors_with_an_absurd_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<Q", 50_000_000) + b'{"x": 1}')
    assert "truncated or damaged" in refusal(tmp_path / "a").message


# Networks from a factory, and without a file


def write_factory(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(f"from torch import nn\n{text}")


def test_factory_in_the_current_folder_makes_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_factory(tmp_path, "own_net_a", "def make(classes=2):\n    return nn.Linear(3, classes)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    weights = nn.Linear(3, 5)
    path = saved(tmp_path / "w.pt", weights.state_dict())
    opened = open_model(path, factory="own_net_a:make", arguments={"classes": 5}, input_shape=(3, 1, 1))
    assert torch.equal(opened.module.state_dict()["weight"], weights.weight)
    assert opened.input_shape == (3, 1, 1)
    assert load_model(None, factory="own_net_a:make").state_dict()["weight"].shape == (2, 3)
    assert sys.path == before


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("own_net_b", ".own_net_b.: expected FILE.py:NAME or package.module:NAME"),
        ("absent_package.nets:make", "no module 'absent_package' was found"),
        ("own_net_b:mak", r"own_net_b\.py defines no 'mak'(.|\n)*did you mean 'make'"),
        ("own_net_b:broken", "calling it raised KeyError: 'x'"),
        ("own_net_b:number", "expected a torch.nn.Module, got int"),
        ("own_net_b:instance", "expected a function"),
    ],
)
def test_factory_that_does_not_work_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, message: str
) -> None:
    text = "def make(): return nn.ReLU()\ndef broken(): return {}['x']\ndef number(): return 3\ninstance = nn.ReLU()\n"
    write_factory(tmp_path, "own_net_b", text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=message):
        open_model(None, factory=factory)


def test_network_without_a_file_has_random_weights_and_the_arguments_shape() -> None:
    opened = open_model(None, architecture="resnet18", arguments={**SMALL, "in_channels": 1})
    assert opened.module(torch.rand(1, 1, 32, 32)).shape == (1, 4)
    assert opened.input_shape == (1, 32, 32)
    assert not opened.module.training


def test_nothing_to_open_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no network: expected an architecture or a factory"):
        open_model(None)
    with pytest.raises(InputError, match="expected one only"):
        open_model(None, architecture="resnet18", factory="a:b")


@pytest.mark.parametrize("shape", [(3, 32), (3, 0, 32), (3, 32, 32.0)])
def test_input_shape_must_be_channels_height_width(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="channels, height, width"):
        open_model(None, architecture="resnet18", arguments=SMALL, input_shape=shape)


def test_loading_leaves_the_random_state_as_it_was(tmp_path: Path, module: nn.Module) -> None:
    path = saved(tmp_path / "a.pt", module.state_dict())
    before = torch.get_rng_state()
    load_model(path, architecture="resnet18", arguments=SMALL)
    assert torch.equal(torch.get_rng_state(), before)

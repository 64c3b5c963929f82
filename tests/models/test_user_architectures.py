"""Architectures that users write, by the name of a function or of an entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import surgery
from surgery.errors import InputError, ModelFileError
from surgery.models import Checkpoint, architectures, build, load_model, open_model, save_checkpoint
from surgery.models.registry import check_architecture, find, user_reference
from surgery.plugins import ArgumentError

SOURCE = """
from torch import nn

def make(num_classes, *, width=8, in_channels=3):
    from user_nets_for_tests.layers import block
    return nn.Sequential(block(in_channels, width), nn.Flatten(), nn.Linear(16 * width, num_classes))

def fixed(width=8):
    return make(10, width=width)

def broken():
    return {}["x"]

def number():
    return 3

network = nn.ReLU()
"""
NAME = "user_nets_for_tests.nets:make"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the current folder, which is not on the path of modules."""
    folder = tmp_path / "user_nets_for_tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "nets.py").write_text(SOURCE)
    (folder / "layers.py").write_text(
        "from torch import nn\ndef block(i, o): return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU())\n"
    )
    monkeypatch.chdir(tmp_path)
    yield folder
    forget()


def imported() -> list[str]:
    return [name for name in sys.modules if name.startswith("user_nets_for_tests")]


def forget() -> None:
    for name in imported():
        del sys.modules[name]


def saved(folder: Path, architecture: str = NAME, **arguments: Any) -> tuple[Path, nn.Module]:
    module = build(architecture, **arguments).eval()
    path = folder / "net.safetensors"
    checkpoint = Checkpoint(
        architecture=architecture, arguments=arguments, input_shape=(3, 4, 4), state=module.state_dict()
    )
    save_checkpoint(path, checkpoint)
    forget()
    return path, module


def test_a_function_is_called_with_the_arguments(package: Path) -> None:
    before = list(sys.path)
    network = build(NAME, num_classes=5, width=2)
    assert network(torch.rand(3, 3, 4, 4)).shape == (3, 5)
    assert find(NAME).input_shape is None
    assert sys.path == before
    assert NAME not in architectures()


def test_normalization_is_put_before_it_and_surgery_linearizes_it(package: Path) -> None:
    mean, std = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
    torch.manual_seed(0)
    network = build(NAME, num_classes=5, normalize={"mean": mean, "std": std}).eval()
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(network(images), network.model((images - 0.5) / 0.25))  # pyright: ignore[reportCallIssue]
    assert surgery.linearize(network, images).certificate.affine


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (NAME, {"num_classes": 2, "widht": 3}, r"unknown argument 'widht'(.|\n)*did you mean 'width'"),
        (NAME, {}, "the argument 'num_classes' is missing"),
        ("user_nets_for_tests.nets:fixed", {"num_classes": 2}, "unknown argument 'num_classes'"),
        ("user_nets_for_tests.nets:broken", {}, "calling it raised KeyError: 'x'"),
        ("user_nets_for_tests.nets:number", {}, "expected a torch.nn.Module, got int"),
        ("user_nets_for_tests.nets:network", {}, "expected a function that returns a torch.nn.Module, got ReLU"),
        ("user_nets_for_tests.nest:make", {}, "no module 'user_nets_for_tests.nest' was found"),
        ("user_nets_for_tests.nets:mak", {}, r"defines no 'mak'(.|\n)*did you mean 'make'"),
    ],
)
def test_what_cannot_be_built_says_why(package: Path, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name, **arguments)


def test_arguments_are_checked_without_importing(package: Path) -> None:
    check_architecture(NAME, {"width": 3})
    check_architecture(NAME, {"in_channels": 1, "normalize": {}})
    check_architecture("user_nets_for_tests.nets:fixed", {})
    with pytest.raises(ArgumentError, match="unknown argument 'widht'") as caught:
        check_architecture(NAME, {"widht": 3})
    assert caught.value.key == "widht"
    with pytest.raises(ArgumentError, match="unknown argument 'in_channels'"):
        check_architecture("user_nets_for_tests.nets:fixed", {"in_channels": 1})
    with pytest.raises(InputError, match="defines no 'mak'"):
        check_architecture("user_nets_for_tests.nets:mak", {})
    assert not imported()


@pytest.mark.parametrize(
    ("name", "arguments", "message", "key"),
    [
        ("resnet18", {"widht": 3}, "unknown argument 'widht'", "widht"),
        ("resnet18", {"width": 0}, "width must be a whole number of at least 1, got 0", "width"),
        ("densenet121", {"width": 5}, "width 5 is odd", "width"),
        ("timm:resnet18", {"pretrained": True}, "pretrained would load weights", "pretrained"),
    ],
)
def test_arguments_of_known_architectures_are_checked_by_building(
    name: str, arguments: dict[str, Any], message: str, key: str
) -> None:
    check_architecture(name, {})
    with pytest.raises(ArgumentError, match=message) as caught:
        check_architecture(name, arguments)
    assert caught.value.key == key


def test_checking_an_unknown_name_is_an_error() -> None:
    with pytest.raises(InputError, match="resnet17: unknown architecture"):
        check_architecture("resnet17", {})


def test_known_names_come_first_and_entry_points_have_names(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"resnet18": NAME, "small": NAME}
    monkeypatch.setattr("surgery.plugins._registered", lambda: {"surgery.architectures": names})
    assert user_reference("small") == user_reference(NAME) == NAME
    assert [user_reference(name) for name in ("resnet18", "torchvision:resnet18", "timm:resnet18")] == [None] * 3
    assert build("small", num_classes=2)(torch.rand(1, 3, 4, 4)).shape == (1, 2)
    check_architecture("small", {"width": 3})
    with pytest.raises(InputError, match=r"smal: unknown architecture(.|\n)*did you mean 'small'"):
        build("smal")


def test_a_file_cannot_make_surgery_import_a_module(package: Path) -> None:
    checkpoint, _ = saved(package.parent, num_classes=5, width=2)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    pickled = package.parent / "net.pt"
    content = {"architecture": NAME, "arguments": {}, "state_dict": safetensors.torch.load_file(checkpoint)}
    torch.save(content, pickled)
    for path in (checkpoint, pickled):
        with pytest.raises(ModelFileError, match="surgery does not import because a file names it") as caught:
            open_model(path)
        assert f"`architecture={NAME}`" in (caught.value.hint or "")
        with pytest.raises(ModelFileError, match=f"a checkpoint of {NAME}, not of resnet18"):
            open_model(path, architecture="resnet18")
    assert not imported()


def test_a_checkpoint_is_opened_where_the_user_names_the_same_function(package: Path) -> None:
    path, module = saved(package.parent, num_classes=5, width=2)
    opened = open_model(path, architecture=NAME)
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(opened.module(images), module(images))
    assert opened.input_shape == (3, 4, 4)
    assert opened.source == f"surgery checkpoint {NAME}"


def test_a_checkpoint_of_a_registered_name_is_opened_by_its_name(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.plugins._registered", lambda: {"surgery.architectures": {"small": NAME}})
    path, module = saved(package.parent, "small", num_classes=5)
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(open_model(path).module(images), module(images))


@pytest.mark.parametrize(("name", "arguments"), [("make", {"num_classes": 3}), ("fixed", {})])
def test_weights_alone_are_put_into_the_network_of_a_function(
    package: Path, name: str, arguments: dict[str, Any]
) -> None:
    architecture = f"user_nets_for_tests.nets:{name}"
    module = build(architecture, **arguments).eval()
    torch.save(module.state_dict(), "weights.pt")
    opened = open_model("weights.pt", architecture=architecture, arguments=arguments)
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(opened.module(images), module(images))


def test_the_number_of_classes_in_a_file_is_passed_where_the_function_takes_it(package: Path) -> None:
    (package / "nets.py").write_text(SOURCE.replace("make(num_classes,", "make(num_classes=10,"))
    torch.save(build(NAME, num_classes=3).state_dict(), "weights.pt")
    opened = open_model("weights.pt", architecture=NAME)
    assert opened.module(torch.rand(1, 3, 4, 4)).shape == (1, 3)
    assert opened.source.endswith("3 classes as in the file")


class Plain(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


def make_plain(classes: int = 3) -> nn.Module:
    return Plain(classes)


@pytest.mark.parametrize("argument", ["architecture", "factory"])
@pytest.mark.parametrize("maker", [Plain, make_plain, lambda classes: Plain(classes)])
def test_class_or_function_makes_the_network_of_a_state_dict(
    tmp_path: Path, argument: str, maker: Callable[..., nn.Module]
) -> None:
    original = Plain(5)
    torch.save(original.state_dict(), tmp_path / "a.pt")
    loaded = load_model(tmp_path / "a.pt", arguments={"classes": 5}, **{argument: maker})
    assert torch.equal(loaded.state_dict()["layer.weight"], original.layer.weight)


def test_class_without_a_file_makes_the_network() -> None:
    opened = open_model(None, architecture=Plain, arguments={"classes": 7})
    assert opened.module.state_dict()["layer.weight"].shape == (7, 4)
    assert opened.source == "Plain as it was made, without a file"


def test_checkpoint_takes_the_class_that_it_names(tmp_path: Path) -> None:
    original = Plain(5)
    checkpoint = Checkpoint(architecture="my_nets:Plain", arguments={"classes": 5}, state=original.state_dict())
    save_checkpoint(tmp_path / "a.ckpt", checkpoint)
    loaded = load_model(tmp_path / "a.ckpt", architecture=Plain, arguments={"classes": 5})
    assert torch.equal(loaded.state_dict()["layer.weight"], original.layer.weight)


@pytest.mark.parametrize("value", [Plain(), 3])
def test_network_instead_of_its_class_is_an_input_error(value: Any) -> None:
    with pytest.raises(InputError, match=f"expected a name, a class or a function .*, got {type(value).__name__}"):
        load_model(None, architecture=value)
    with pytest.raises(InputError, match="expected one only"):
        load_model(None, architecture=Plain, factory=make_plain)

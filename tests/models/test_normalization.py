from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import InputError, ModelFileError
from surgery.models import Checkpoint, build, default_input_shape, load_model, open_model, save_checkpoint

NORMALIZE = {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}
SMALL: dict[str, Any] = {"num_classes": 4, "width": 4}
State = dict[str, Tensor]


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(NORMALIZE[name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


@pytest.fixture
def module() -> nn.Module:
    return build("resnet18", normalize=NORMALIZE, **SMALL).eval()


@pytest.fixture
def bare() -> nn.Module:
    return build("resnet18", **SMALL).eval()


@pytest.mark.parametrize("name", ["convnet", "linear", "torchvision:squeezenet1_1", "timm:resnet10t"])
def test_network_sees_normalized_images(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, normalize=NORMALIZE).eval()
    torch.manual_seed(0)
    network = build(name).eval()
    images = torch.rand(2, *(default_input_shape(name) or ()))
    torch.testing.assert_close(module(images), network(normalized(images)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet18", SMALL), ("linear", {}), ("torchvision:squeezenet1_1", {}), ("timm:resnet10t", {})],
)
def test_normalization_stays_in_the_linear_part(name: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = build(name, normalize=NORMALIZE, **arguments)
    torch.manual_seed(0)
    network = build(name, **arguments)
    images = torch.rand(2, 3, 32, 32)
    linear, expected = surgery.linearize(module, images), surgery.linearize(network, images)
    assert linear.before.rung == "symbolic"
    assert linear.certificate.affine, linear.certificate.reason
    torch.testing.assert_close(linear.module(images), expected.module(normalized(images)))


def test_weights_of_the_linear_part_are_those_of_the_pixels() -> None:
    torch.manual_seed(0)
    module = build("linear", normalize=NORMALIZE)
    weight = surgery.extract(surgery.linearize(module, torch.zeros(1, 3, 32, 32)).module).weight
    expected = module.state_dict()["model.linear.weight"].reshape(10, 3, 32, 32)
    torch.testing.assert_close(weight.float(), expected / torch.tensor(NORMALIZE["std"]).reshape(3, 1, 1))


def test_checkpoint_keeps_the_normalization(tmp_path: Path, module: nn.Module) -> None:
    arguments = {**SMALL, "normalize": NORMALIZE}
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, Checkpoint(architecture="resnet18", arguments=arguments, state=module.state_dict()))
    opened = open_model(path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.module(images), module(images))
    assert opened.input_shape == (3, 32, 32)
    assert opened.source == "surgery checkpoint resnet18"


def test_common_state_dict_goes_into_the_network_behind_the_normalization(tmp_path: Path, bare: nn.Module) -> None:
    state = {f"module.{name}": tensor for name, tensor in bare.state_dict().items()}
    torch.save({"net": state, "acc": 93.1}, tmp_path / "a.pt")
    arguments = {"width": 4, "normalize": NORMALIZE}
    opened = open_model(tmp_path / "a.pt", architecture="resnet18", arguments=arguments)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.module(images), bare(normalized(images)))
    assert opened.source == "state dict of resnet18, 4 classes as in the file"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dict_of_a_normalized_network_is_not_taken_for_a_plain_one(
    tmp_path: Path, module: nn.Module, prefix: str
) -> None:
    torch.save({prefix + name: tensor for name, tensor in module.state_dict().items()}, tmp_path / "a.pt")
    opened = open_model(tmp_path / "a.pt", architecture="resnet18", arguments={"width": 4})
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.module(images), module(images))
    assert opened.source == "state dict of resnet18, normalization as in the file, 4 classes as in the file"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalization_that_the_file_has_too_may_be_given(
    tmp_path: Path, module: nn.Module, dtype: torch.dtype
) -> None:
    torch.save(module.to(dtype).state_dict(), tmp_path / "a.pt")
    loaded = load_model(tmp_path / "a.pt", architecture="resnet18", arguments={**SMALL, "normalize": NORMALIZE})
    torch.testing.assert_close(loaded.state_dict()["normalize.mean"], module.state_dict()["normalize.mean"].float())


def test_other_normalization_than_the_files_is_refused(tmp_path: Path, module: nn.Module) -> None:
    torch.save(module.state_dict(), tmp_path / "a.pt")
    other = {"mean": [0.5] * 3, "std": [0.25] * 3}
    with pytest.raises(ModelFileError, match=r"a\.pt: its network normalizes with .*0\.49.*, got .*0\.5") as caught:
        load_model(tmp_path / "a.pt", architecture="resnet18", arguments={**SMALL, "normalize": other})
    assert "omit normalize" in (caught.value.hint or "")


def test_number_of_channels_follows_the_arguments() -> None:
    gray = {"mean": [0.3], "std": [0.2]}
    assert build("convnet", in_channels=1, normalize=gray)(torch.rand(2, 1, 16, 16)).shape == (2, 10)
    with pytest.raises(InputError, match="1 numbers in mean and 1 in std; expected 3, one for each channel"):
        build("convnet", normalize=gray)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cifar10", "expected mean and std, got 'cifar10'"),
        ({"mean": [0.5] * 3}, r"expected mean and std, got \['mean'\]"),
        ({"mean": [0.5] * 3, "sdt": [0.5] * 3}, "expected mean and std"),
        ({"mean": 0.5, "std": 0.5}, "mean must be a list of numbers, one for each channel, got 0.5"),
        ({"mean": [0.5] * 3, "std": ["a"] * 3}, "std must be a list of finite numbers"),
        ({"mean": [0.5, 0.5, float("nan")], "std": [0.5] * 3}, "mean must be a list of finite numbers"),
        ({"mean": [0.5] * 3, "std": [0.5] * 2}, "3 numbers in mean and 2 in std"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.0, 0.5]}, "std must be above 0, got 0.0"),
        ({"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}, r"mean and std of images in \[0, 1\], got"),
    ],
)
def test_bad_normalization_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("convnet", normalize=value)

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import fx

from surgery.errors import InputError
from surgery.models import architectures, build, default_input_shape


@pytest.mark.parametrize("name", architectures())
def test_own_architecture_traces_and_maps_its_images_to_logits(name: str) -> None:
    module = build(name, num_classes=7, width=4).eval()
    images = torch.rand(2, *(default_input_shape(name) or ()))
    logits = module(images)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(fx.symbolic_trace(module)(images), logits, rtol=0, atol=0)


@pytest.mark.parametrize("size", [28, 64])
def test_resnet_takes_other_image_sizes_and_channels(size: int) -> None:
    assert build("resnet18", width=4, in_channels=1).eval()(torch.rand(1, 1, size, size)).shape == (1, 10)


# Counted by hand from the papers' tables with a 3x3 stem and one linear layer; CIFAR repositories give the same.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_173_962), ("resnet34", 21_282_122), ("resnet50", 23_520_842), ("vgg16_bn", 14_728_266)],
)
def test_size_is_that_of_the_cifar_networks(name: str, parameters: int) -> None:
    with torch.device("meta"):
        module = build(name)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


def test_resnet_has_the_names_of_cifar_checkpoints() -> None:
    names = set(build("resnet18", width=4).state_dict())
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv2.weight", "layer2.0.shortcut.0.weight"} <= names
    assert {"layer2.0.shortcut.1.running_mean", "linear.weight", "linear.bias"} <= names
    assert not any(name.startswith("layer1.0.shortcut") for name in names), "the identity has no weights"


def test_stem_keeps_the_resolution() -> None:
    module = build("resnet18", width=4)
    sizes: list[int] = []
    for name in ("layer1", "layer4"):
        module.get_submodule(name).register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    module.eval()(torch.rand(1, 3, 32, 32))
    assert sizes == [32, 4]


def test_linear_part_of_vgg_sees_one_pixel() -> None:
    features = build("vgg11", width=4).eval().get_submodule("features")
    assert features(torch.rand(1, 3, 32, 32)).shape == (1, 32, 1, 1)


def test_torchvision_and_timm_are_built_without_weights_and_without_warnings() -> None:
    assert build("torchvision:squeezenet1_1", num_classes=3).num_classes == 3
    assert build("timm:resnet10t", num_classes=3).num_classes == 3
    # Its constructor warns unless the caller decides about its slow initialisation; warnings are errors here.
    assert build("torchvision:googlenet", num_classes=3).state_dict()["fc.bias"].shape == (3,)


def test_other_packages_are_imported_only_when_asked_for() -> None:
    code = "import sys, surgery.models; print(sorted({'torchvision', 'timm'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (3, 32, 32)),
        ("torchvision:resnet18", (3, 224, 224)),
        ("torchvision:inception_v3", (3, 299, 299)),
        ("timm:resnet18", (3, 224, 224)),
        ("timm:mixer_b16_224.goog_in21k_ft_in1k", (3, 224, 224)),
    ],
)
def test_default_input_shape(name: str, shape: tuple[int, int, int]) -> None:
    assert default_input_shape(name) == shape


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet17", "resnet18"),
        ("torchvision:resnt18", "resnet18"),
        ("timm:resnt18", "resnet18"),
        ("timm:resnet18.a1_in2k", "resnet18.a1_in1k"),
        ("keras:resnet18", "torchvision:NAME"),
        ("timm:hf-hub:someone/network", ""),
        ("torchvision:fasterrcnn_resnet50_fpn", ""),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(name: str, suggestion: str) -> None:
    with pytest.raises(InputError) as caught:
        build(name)
    assert caught.value.message.startswith(name)
    assert suggestion in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "timm:resnet18"])
def test_unknown_argument_is_named(name: str) -> None:
    with pytest.raises(InputError, match="widht"):
        build(name, widht=3)


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"width": "64"}, {"in_channels": True}, {"width": -1}])
def test_counts_must_be_positive_whole_numbers(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        build("resnet18", **arguments)  # pyright: ignore[reportArgumentType] (wrong on purpose)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("timm:resnet18", {"pretrained": True}),
        ("timm:resnet18", {"checkpoint_path": "evil.pt"}),
        ("torchvision:resnet18", {"weights": "DEFAULT"}),
    ],
)
def test_arguments_that_would_load_weights_are_refused(name: str, argument: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(argument))} would load weights"):
        build(name, **argument)  # pyright: ignore[reportArgumentType] (wrong on purpose)


def test_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'model-surgery\[timm\]'"):
        build("timm:resnet18")

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import fx, nn

import surgery
from surgery.errors import InputError
from surgery.models import architectures, build, default_input_shape


def small(name: str, **arguments: Any) -> nn.Module:
    return build(name, **({} if name == "linear" else {"width": 4}), **arguments).eval()


def size(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        module = build(name, **arguments)
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", architectures())
def test_own_architecture_traces_and_maps_its_images_to_logits(name: str) -> None:
    module = small(name, num_classes=7)
    images = torch.rand(2, *(default_input_shape(name) or ()))
    logits = module(images)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(fx.symbolic_trace(module)(images), logits, rtol=0, atol=0)
    torch.testing.assert_close(module(images[:1]), logits[:1], rtol=1e-4, atol=1e-5)  # other blocking, other rounding


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*((name, {}) for name in architectures()), ("resnet18", {"stem": "stl"}), ("linear", {"input_size": 16})],
)
def test_own_architecture_has_a_certified_linear_part_without_export(name: str, arguments: dict[str, Any]) -> None:
    shape = default_input_shape(name, arguments) or ()
    linear = surgery.linearize(small(name, **arguments), torch.zeros(1, *shape))
    assert linear.before.rung == "symbolic"
    assert linear.certificate.affine, linear.certificate.reason


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *(("resnet18", 28), ("resnet18", 64), ("vgg11", 64), ("densenet121", 8), ("densenet121", 40)),
        *(("alexnet", 29), ("alexnet", 64), ("convnet", 16), ("convnet", 28)),
    ],
)
def test_other_image_sizes_and_channels_are_taken(name: str, side: int) -> None:
    assert small(name, in_channels=1)(torch.rand(1, 1, side, side)).shape == (1, 10)


# Counted by hand from the papers' tables with a 3x3 stem and one linear layer; CIFAR repositories give the same.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *(("resnet18", 11_173_962), ("resnet34", 21_282_122), ("resnet50", 23_520_842), ("vgg16_bn", 14_728_266)),
        *(("densenet121", 6_956_298), ("alexnet", 2_472_266), ("linear", 10 * 3073)),
    ],
)
def test_size_is_that_of_the_cifar_networks(name: str, parameters: int) -> None:
    assert size(name) == parameters


@pytest.mark.parametrize("name", [name for name in architectures() if name != "linear"])
def test_half_the_width_is_nearly_a_quarter_of_the_weights(name: str) -> None:
    # A little more: biases, batch norms, the first and the last layer shrink with the width alone.
    assert 0.25 < size(name, width=32) / size(name, width=64) < 0.27


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("densenet121", {"conv1.weight", "dense1.5.bn2.weight", "trans3.conv.weight", "bn.weight", "linear.bias"}),
        ("alexnet", {"features.0.weight", "features.3.bias", "features.10.weight", "classifier.weight"}),
        ("linear", {"linear.weight", "linear.bias"}),
    ],
)
def test_names_are_those_of_cifar_checkpoints(name: str, expected: set[str]) -> None:
    assert expected <= set(small(name).state_dict())


def test_dense_layer_puts_its_channels_before_its_input() -> None:
    layer = small("densenet121").get_submodule("dense1.0")
    images = torch.rand(1, 4, 8, 8)
    assert torch.equal(layer(images)[:, 2:], images)


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


@pytest.mark.parametrize(("name", "channels"), [("vgg11", 32), ("alexnet", 16)])
def test_linear_layer_sees_one_pixel(name: str, channels: int) -> None:
    features = small(name).get_submodule("features")
    assert features(torch.rand(1, 3, 32, 32)).shape == (1, channels, 1, 1)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_stl_stem_halves_the_image_before_the_stages(name: str) -> None:
    module = small(name, stem="stl")
    sides: list[int] = []
    module.get_submodule("layer1").register_forward_hook(lambda _, inputs, __: sides.append(inputs[0].shape[-1]))
    assert module(torch.rand(2, 3, 96, 96)).shape == (2, 10)
    assert sides == [47]  # 96 - 2 by the 5x5 convolution with padding 1, then halved
    assert module.get_submodule("conv1").weight.shape == (4, 3, 5, 5)
    assert set(module.state_dict()) == set(small(name).state_dict())


def test_unknown_stem_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="stem 'stl10': expected cifar or stl") as caught:
        build("resnet18", stem="stl10")
    assert "'stl'" in (caught.value.hint or "")


def test_odd_width_of_a_dense_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"densenet121: .*width 5 is odd"):
        build("densenet121", width=5)


def test_torchvision_and_timm_are_built_without_weights_and_without_warnings() -> None:
    assert build("torchvision:squeezenet1_1", num_classes=3).num_classes == 3
    assert build("timm:resnet10t", num_classes=3).num_classes == 3
    # Its constructor warns unless the caller decides about its slow initialization; warnings are errors here.
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
    ("name", "arguments", "shape"),
    [
        ("resnet18", {"stem": "stl"}, (3, 96, 96)),
        ("resnet50", {"stem": "cifar", "in_channels": 1}, (1, 32, 32)),
        ("linear", {"input_size": 16, "in_channels": 1}, (1, 16, 16)),
        ("linear", {"input_size": 8, "input_width": 12}, (3, 8, 12)),
        ("timm:resnet18", {"in_chans": 4}, (4, 224, 224)),
        ("torchvision:vit_b_16", {"image_size": 64}, (3, 64, 64)),
    ],
)
def test_input_shape_follows_the_arguments(name: str, arguments: dict[str, Any], shape: tuple[int, int, int]) -> None:
    assert default_input_shape(name, arguments) == shape


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


@pytest.mark.parametrize(
    "arguments", [{"num_classes": 0}, {"width": "64"}, {"in_channels": True}, {"width": -1}, {"input_size": 16.0}]
)
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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet18", {"name": "x"}, "unknown argument 'name'"),
        ("timm:resnet18", {"model_name": "x"}, "cannot be built with model_name='x': TypeError"),
        ("timm:resnet18", {"act_layer": "foo", "num_classes": 5}, "with act_layer='foo': KeyError: 'foo'"),
        ("torchvision:resnet18", {"num_classes": 5, "norm_layer": "foo"}, "with norm_layer='foo': TypeError: 'str'"),
        ("resnet18", {"width": 100_000}, r"width=100000: its weights take .* GB, and .* GB are free"),
    ],
)
def test_an_argument_that_the_constructor_refuses_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name, **arguments)


@pytest.mark.parametrize("name", ["keras:resnet18", "my_nets:smal", "torch.nn:Nothing"])
def test_a_hint_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError) as caught:
        build(name)
    assert "?;" not in str(caught.value)
    assert name not in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["convnet", "torchvision:squeezenet1_1", "timm:resnet10t"])
@pytest.mark.parametrize("state", [torch.inference_mode, torch.no_grad])
def test_a_network_can_be_trained_wherever_it_was_built(name: str, state: Any) -> None:
    with state():
        network = build(name, num_classes=3)
    assert not any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers()))
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(tensor.grad is not None for tensor in network.parameters())

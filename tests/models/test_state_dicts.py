from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from surgery.errors import InputError, ModelFileError
from surgery.models import build, load_model, open_model

SMALL = {"num_classes": 4, "width": 4}
State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    return build("resnet18", **SMALL).state_dict()


def refusal(tmp_path: Path, content: object, **options: Any) -> ModelFileError:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelFileError) as caught:
        open_model(tmp_path / "a.pt", **options)
    return caught.value


def opens(tmp_path: Path, content: object, **options: Any) -> nn.Module:
    torch.save(content, tmp_path / "a.pt")
    return load_model(tmp_path / "a.pt", **{"architecture": "resnet18", "arguments": SMALL, **options})


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.net."])
def test_wrappers_and_prefixes_are_understood(tmp_path: Path, state: State, wrapper: str, prefix: str) -> None:
    content = {wrapper: {prefix + name: tensor for name, tensor in state.items()}, "epoch": 3, "optimizer": {"lr": 0.1}}
    loaded = opens(tmp_path, content).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_nested_wrappers_and_compiled_parts_are_understood(tmp_path: Path, state: State) -> None:
    inner = {name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in state.items()}
    loaded = opens(tmp_path, {"net": {"state_dict": inner}, "acc": 93.1}).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(2, 3)


def test_prefix_that_belongs_to_the_network_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_net_c", sys.modules[__name__])
    original = Wrapped()
    loaded = opens(tmp_path, original.state_dict(), architecture=None, arguments={}, factory="own_net_c:Wrapped")
    assert torch.equal(loaded.state_dict()["model.weight"], original.model.weight)


def test_missing_and_unexpected_names_are_listed_with_the_nearest(tmp_path: Path, state: State) -> None:
    renamed = {name.replace("shortcut", "downsample"): tensor for name, tensor in state.items()}
    del renamed["conv1.weight"]
    message = refusal(tmp_path, renamed, architecture="resnet18", arguments=SMALL).message
    assert "missing, 16: conv1.weight, layer2.0.shortcut.0.weight (is it layer2.0.downsample.0.weight?)" in message
    assert "and 8 more" in message
    assert "unexpected, 18: layer2.0.downsample.0.weight" in message
    assert "and 10 more" in message


def test_one_superfluous_tensor_is_an_error(tmp_path: Path, state: State) -> None:
    message = refusal(
        tmp_path, {**state, "ema.weight": torch.ones(1)}, architecture="resnet18", arguments=SMALL
    ).message
    assert "unexpected, 1: ema.weight" in message


def test_batch_norm_counters_may_be_absent(tmp_path: Path, state: State) -> None:
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    loaded = opens(tmp_path, old)
    assert loaded.state_dict()["bn1.num_batches_tracked"] == 0
    assert torch.equal(loaded.state_dict()["bn1.weight"], old["bn1.weight"])


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [("vgg11", {"width": 4}), ("torchvision:squeezenet1_1", {}), ("torchvision:googlenet", {})],
)
def test_number_of_classes_is_taken_from_the_file(tmp_path: Path, architecture: str, arguments: dict[str, Any]) -> None:
    torch.save(build(architecture, num_classes=7, **arguments).state_dict(), tmp_path / "a.pt")
    opened = open_model(tmp_path / "a.pt", architecture=architecture, arguments=arguments)
    assert opened.source == f"state dict of {architecture}, 7 classes as in the file"
    shape = opened.input_shape
    assert shape is not None
    assert opened.module(torch.rand(1, *shape)).shape == (1, 7)


def test_number_of_classes_that_was_given_is_not_changed(tmp_path: Path, state: State) -> None:
    error = refusal(tmp_path, state, architecture="resnet18", arguments={"width": 4, "num_classes": 5})
    assert "linear.weight should be (5, 32), is (4, 32)" in error.message
    assert "num_classes=4" in (error.hint or "")


def test_other_width_is_not_taken_for_other_classes(tmp_path: Path, state: State) -> None:
    error = refusal(tmp_path, state, architecture="resnet18")
    assert "conv1.weight should be (64, 3, 3, 3), is (4, 3, 3, 3)" in error.message
    assert "width" in (error.hint or "")


@pytest.mark.parametrize(
    ("given", "true"),
    [("resnet18", "torchvision:resnet18"), ("torchvision:resnet18", "resnet18"), ("resnet34", "resnet18")],
)
def test_hint_names_the_architecture_that_fits(tmp_path: Path, given: str, true: str) -> None:
    error = refusal(tmp_path, build(true, num_classes=10).state_dict(), architecture=given)
    assert f"`architecture={true}`" in (error.hint or "")


def test_state_dict_alone_asks_for_an_architecture_and_names_one(tmp_path: Path, state: State) -> None:
    error = refusal(tmp_path, {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}})
    assert "122 tensors, module.conv1.weight (4, 3, 3, 3)" in error.message
    assert "`architecture=resnet18`" in (error.hint or "")
    unknown = refusal(tmp_path, {"x": torch.ones(1)})
    assert "`architecture=NAME`" in (unknown.hint or "")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, state: State, value: float) -> None:
    state["layer1.0.conv1.weight"].view(-1)[:3] = value
    state["bn1.running_var"][0] = value
    error = refusal(tmp_path, state, architecture="resnet18", arguments=SMALL)
    assert "2 of 122 tensors" in error.message
    assert "layer1.0.conv1.weight (3 of 144)" in error.message
    assert "bn1.running_var (1 of 4)" in error.message


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("mask", torch.triu(torch.full((3, 3), -torch.inf), diagonal=1))


def test_attention_mask_of_minus_infinities_is_not_a_broken_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "own_net_d", sys.modules[__name__])
    loaded = opens(tmp_path, Masked().state_dict(), architecture=None, arguments={}, factory="own_net_d:Masked")
    assert loaded.state_dict()["mask"].isinf().sum() == 3


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "an empty one"),
        ([1, 2], "type list"),
        (torch.ones(2, 3), r"type Tensor of shape \(2, 3\)"),
        ({"epoch": 3, "loss": 0.5}, r"not tensors: epoch \(int\), loss \(float\)"),
    ],
)
def test_content_that_is_no_state_dict_is_described(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelFileError, match=found):
        open_model(tmp_path / "a.pt", architecture="resnet18")


def test_half_precision_weights_are_read_exactly(tmp_path: Path, state: State) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    loaded = opens(tmp_path, half).state_dict()
    assert loaded["conv1.weight"].dtype == torch.float32
    assert torch.equal(loaded["conv1.weight"], half["conv1.weight"].float())


def averaged(state: State) -> dict[str, Any]:
    """A file with the weights and their moving average, and other entries that hold tensors."""
    average = {f"module.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
    optimizer = {"state": {0: {"momentum": torch.ones(1)}}, "param_groups": []}
    return {"model": state, "model_ema": {"state_dict": average}, "optimizer": optimizer, "epoch": 3}


def test_file_with_several_weights_says_which_were_read(tmp_path: Path, state: State) -> None:
    torch.save(averaged(state), tmp_path / "a.pt")
    opened = open_model(tmp_path / "a.pt", architecture="resnet18", arguments=SMALL)
    assert opened.source == "state dict of resnet18, entry 'model' (others with weights: 'model_ema')"
    assert torch.equal(opened.module.state_dict()["linear.weight"], state["linear.weight"])


@pytest.mark.parametrize("key", ["model_ema", "model_ema.state_dict"])
def test_key_chooses_the_weights(tmp_path: Path, state: State, key: str) -> None:
    torch.save(averaged(state), tmp_path / "a.pt")
    opened = open_model(tmp_path / "a.pt", architecture="resnet18", arguments=SMALL, key=key)
    assert opened.source == f"state dict of resnet18, entry {key!r}"
    assert not opened.module.state_dict()["linear.weight"].any()
    loaded = load_model(tmp_path / "a.pt", architecture="resnet18", arguments=SMALL, key=key)
    assert not loaded.state_dict()["linear.weight"].any()


def test_only_one_set_of_weights_needs_no_key(tmp_path: Path, state: State) -> None:
    torch.save({"state_dict": state, "optimizer": averaged(state)["optimizer"]}, tmp_path / "a.pt")
    assert open_model(tmp_path / "a.pt", architecture="resnet18", arguments=SMALL).source == "state dict of resnet18"


def test_unusual_entry_with_weights_is_proposed(tmp_path: Path, state: State) -> None:
    assert "`key='ema'`" in (refusal(tmp_path, {"ema": state, "epoch": 3}, architecture="resnet18").hint or "")
    assert opens(tmp_path, {"ema": state, "epoch": 3}, key="ema").training is False


def test_absent_entry_is_refused_with_those_that_exist(tmp_path: Path, state: State) -> None:
    message = refusal(tmp_path, averaged(state), architecture="resnet18", key="ema").message
    assert "no entry 'ema'; it has the entries 'model', 'model_ema', 'optimizer', 'epoch'" in message


def test_key_of_a_file_with_one_network_is_an_error(tmp_path: Path, state: State) -> None:
    safetensors.torch.save_file(dict(state), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="the file holds one network, no entry 'ema'"):
        open_model(tmp_path / "a.safetensors", architecture="resnet18", arguments=SMALL, key="ema")
    with pytest.raises(InputError, match="without a file"):
        open_model(None, architecture="resnet18", key="ema")

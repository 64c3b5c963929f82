"""Published weights of torchvision and timm, with the libraries' own downloads replaced: no test needs a network."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.models.normalization import Normalized
from surgery.models.registry import build, build_published

TORCHVISION, TIMM = "torchvision:squeezenet1_1", "timm:resnet10t"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """The state dicts that the two libraries download."""
    torch.manual_seed(3)
    states = {name: build(name).state_dict() for name in (TORCHVISION, TIMM)}
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: states[TORCHVISION])
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: states[TIMM])
    return states


@pytest.mark.parametrize(
    ("name", "weights"),
    [(TORCHVISION, "DEFAULT"), (TORCHVISION, "IMAGENET1K_V1"), (TIMM, "DEFAULT"), (TIMM, "c3_in1k")],
)
def test_published_weights_are_loaded_behind_their_normalization(
    published: dict[str, dict[str, Tensor]], name: str, weights: str
) -> None:
    network = build_published(name, weights).eval()
    assert isinstance(network, Normalized)
    for key, tensor in network.model.state_dict().items():
        assert torch.equal(tensor, published[name][key])
    torch.testing.assert_close(network.normalize.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(network(images), network.model(network.normalize(images)))


def test_a_normalization_that_is_given_is_taken(published: dict[str, dict[str, Tensor]]) -> None:
    half = [0.5, 0.5, 0.5]
    network = build_published(TORCHVISION, "DEFAULT", {"normalize": {"mean": half, "std": half}, "dropout": 0.1})
    assert network.normalize.mean.flatten().tolist() == half  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "weights", "arguments", "message"),
    [
        ("resnet18", "DEFAULT", {}, "no published weights of this architecture"),
        ("torch.nn:ReLU", "DEFAULT", {}, "no published weights of this architecture"),
        ("torchvision:resnet17", "DEFAULT", {}, r"unknown architecture(.|\n)*'resnet18'"),
        (TORCHVISION, "DEFAULTS", {}, r"unknown weights 'DEFAULTS'(.|\n)*did you mean 'DEFAULT'\?"),
        (TIMM, "c3_in2k", {}, r"unknown weights 'c3_in2k'(.|\n)*did you mean 'c3_in1k'\?"),
        (TORCHVISION, "DEFAULT", {"num_classes": 5}, "num_classes=5: ValueError: .*expected value 1000 but got 5"),
        (TIMM, "DEFAULT", {"num_classes": 5}, "num_classes=5: ValueError: the published weights are for 1000 classes"),
    ],
)
def test_weights_that_are_not_published_are_refused(
    published: dict[str, dict[str, Tensor]], name: str, weights: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_published(name, weights, arguments)


def test_a_failed_download_is_no_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> nn.Module:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"could not be downloaded: URLError(.|\n)*connected"):
        build_published(TORCHVISION, "DEFAULT")

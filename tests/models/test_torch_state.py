"""Model files are opened and written alike whatever state of torch the caller has set, and the state is put back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import nn

import surgery
from surgery.graph import export_graph, load_graph, save_graph
from surgery.models import Checkpoint, build, load_model, save_checkpoint

SMALL = {"num_classes": 4, "width": 4}


class Float64(AbstractContextManager[None]):
    def __enter__(self) -> None:
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(torch.float32)


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference": lambda: torch.inference_mode(),
    "no gradients": lambda: torch.no_grad(),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": Float64,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    module = build("convnet", **SMALL).eval()
    graph = surgery.trace(module, torch.zeros(1, 3, 32, 32))
    save_checkpoint(
        folder / "checkpoint", Checkpoint(architecture="convnet", arguments=SMALL, state=module.state_dict())
    )
    torch.save(module.state_dict(), folder / "state")
    save_graph(graph, folder / "graph")
    export_graph(graph, folder / "exported.pt2")
    torch.export.save(torch.export.export(module, (torch.rand(1, 3, 32, 32),)), folder / "fixed.pt2")
    return folder


OPENED: dict[str, Callable[[Path], nn.Module]] = {
    "checkpoint": load_model,
    "state": lambda path: load_model(path, architecture="convnet", arguments=SMALL),
    "graph": load_graph,
    "exported.pt2": load_model,
    "fixed.pt2": load_model,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", OPENED)
def test_opened_network_has_gradients_whatever_the_caller_has_set(files: Path, name: str, state: str) -> None:
    with STATES[state]():
        before = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()
        module = OPENED[name](files / name)
        assert (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()) == before
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    [gradient] = torch.autograd.grad(module(images).sum(), images)
    [expected] = torch.autograd.grad(OPENED[name](files / name)(images).sum(), images)
    assert torch.equal(gradient, expected)
    assert gradient.any()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt2"])
def test_written_graph_is_the_same_whatever_the_caller_has_set(
    files: Path, tmp_path: Path, name: str, state: str
) -> None:
    graph = load_graph(files / "graph")
    with STATES[state]():
        export_graph(graph, tmp_path / name)
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(load_model(tmp_path / name)(images), graph(images))

"""Programs that torch.export made for a fixed number of images, as it does without dynamic shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import TraceError
from surgery.graph import Graph
from surgery.graph.batches import fixed_batch
from surgery.models import build, open_model


class Views(nn.Module):
    """Sizes of the batch written by `view`, a token for each image, and attention with the sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.token = nn.Conv2d(3, 8, 2, stride=2), nn.Parameter(torch.randn(1, 1, 8))
        self.attention, self.linear = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).view(x.size(0), 8, -1).permute(0, 2, 1)
        y = torch.cat([self.token.expand(x.size(0), -1, -1), y], dim=1)
        y, _ = self.attention(y, y, y, need_weights=False)
        return self.linear(y[:, 0])


class Windows(nn.Module):
    """Windows of all images in the first dimension, as a Swin transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.size(0)
        y = x.view(n, 3, 4, 2, 4, 2).permute(0, 2, 4, 3, 5, 1).reshape(n * 16, 4 * 3)
        return self.linear(y).view(n, 16, 5).mean(1)


class Mixing(nn.Module):
    """The result for an image depends on its neighbors: no number of images but the exported one is right."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) * x.size(0) + x.mean()


def exported(path: Path, module: nn.Module, batch: int) -> Path:
    torch.export.save(torch.export.export(module.eval(), (torch.rand(batch, 3, 8, 8),)), path)
    return path


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("make", [Views, Windows, lambda: build("convnet", width=4)], ids=["views", "windows", "net"])
def test_program_for_a_fixed_number_of_images_becomes_a_graph_for_any(tmp_path: Path, make: object, batch: int) -> None:
    assert callable(make)
    torch.manual_seed(0)
    module = make()
    opened = open_model(exported(tmp_path / "a.pt2", module, batch))
    assert isinstance(opened.module, Graph)
    assert f"exported for batches of {batch};" in opened.source
    for images in (torch.rand(1, 3, 8, 8), torch.rand(7, 3, 8, 8)):
        torch.testing.assert_close(opened.module(images), module(images))


def test_program_of_a_network_of_the_paper_is_linearized(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "a.pt2"
    module = build("resnet18", width=4).eval()
    torch.export.save(torch.export.export(module, (torch.rand(1, 3, 32, 32),)), path)
    linear = surgery.linearize(open_model(path).module, torch.zeros(1, 3, 32, 32))
    assert linear.certificate


@pytest.mark.parametrize("batch", [1, 3])
def test_program_that_mixes_images_is_run_batch_by_batch(tmp_path: Path, batch: int) -> None:
    torch.manual_seed(0)
    module = Mixing()
    opened = open_model(exported(tmp_path / "a.pt2", module, batch))
    assert f"run in batches of {batch}" in opened.source
    assert "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)" in opened.source, "the line that exports it for any number"
    assert opened.input_shape == (3, 8, 8)
    images = torch.rand(2 * batch, 3, 8, 8)
    halves = [module(half) for half in images.split(batch)]
    torch.testing.assert_close(opened.module(images), torch.cat(halves))
    assert opened.module(images[:-1]).shape == (2 * batch - 1, 5)
    with pytest.raises(TraceError, match=f"computes batches of {batch} only; export it for any number of images"):
        surgery.trace(opened.module, torch.zeros(1, 3, 8, 8))


def test_program_for_any_number_has_no_fixed_one(tmp_path: Path) -> None:
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(build("convnet", width=4).eval(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=free)
    assert fixed_batch(program) is None
    torch.export.save(program, tmp_path / "a.pt2")
    assert open_model(tmp_path / "a.pt2").source == "exported program (torch.export)"

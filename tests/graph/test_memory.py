"""The estimate of the memory of a forward pass, and the refusal of images that do not fit."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError
from surgery.graph.memory import check_memory, forward_memory
from surgery.models import build

IMAGE = 3 * 8 * 8 * 4
"""Bytes of one image of 3x8x8 in float32."""


@pytest.mark.parametrize(
    ("layers", "images", "expected"),
    [
        ([nn.ReLU()], 1, 2 * IMAGE),
        ([nn.ReLU(), nn.Sigmoid(), nn.Tanh()], 1, 2 * IMAGE),
        ([nn.ReLU(), nn.Sigmoid()], 5, 10 * IMAGE),
        ([nn.Flatten(), nn.Linear(192, 192)], 1, 2 * IMAGE),
        ([nn.Conv2d(3, 30, 1), nn.Conv2d(30, 3, 1)], 2, 22 * IMAGE),
    ],
)
def test_a_value_is_held_until_its_last_reader(layers: list[nn.Module], images: int, expected: int) -> None:
    graph = surgery.trace(nn.Sequential(*layers), torch.zeros(1, 3, 8, 8))
    assert forward_memory(graph, images) == expected


def test_a_value_that_a_view_shows_is_held_for_the_readers_of_the_view() -> None:
    class Shown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = (x + 1).flatten(1)
            return flat.relu().sigmoid().tanh() + flat

    graph = surgery.trace(Shown(), torch.zeros(1, 3, 8, 8))
    assert forward_memory(graph, 1) == 3 * IMAGE


def test_the_estimate_is_near_the_memory_that_torch_allocates() -> None:
    graph = surgery.trace(build("resnet18", width=8), torch.zeros(1, 3, 32, 32))
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile, torch.no_grad():
        graph(torch.zeros(4, 3, 32, 32))
    held = peak = 4 * 3 * 32 * 32 * 4
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):  # pyright: ignore[reportOptionalMemberAccess]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0.5 < forward_memory(graph, 4) / peak < 1.5


def test_images_that_do_not_fit_are_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = surgery.trace(nn.ReLU(), torch.zeros(1, 3, 8, 8))
    monkeypatch.setattr("surgery.graph.memory.free_memory", lambda device: 8 * IMAGE)
    check_memory(graph, 4)
    with pytest.raises(InputError, match="images of 3x8x8: a forward pass of 5 images through ReLU takes about"):
        check_memory(graph, 5)


def test_a_certificate_is_refused_where_its_probes_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = surgery.trace(nn.Flatten(), torch.zeros(1, 3, 8, 8))
    monkeypatch.setattr("surgery.graph.memory.free_memory", lambda device: 5 * IMAGE)
    with pytest.raises(InputError, match="a forward pass of 6 images"):
        surgery.certify(graph)


@pytest.mark.parametrize("side", [100_000, 30_000])
def test_tracing_refuses_huge_images_before_it_uses_memory(side: int) -> None:
    example = torch.zeros(()).expand(1, 3, side, side)
    start = time.perf_counter()
    with pytest.raises(InputError, match=f"3x{side}x{side}.* takes about .* GB, and .* are free"):
        surgery.trace(build("resnet18", width=64), example)
    assert time.perf_counter() - start < 10

"""Functions that trace give the same graph, whatever state of torch their caller has set."""

import contextlib

import pytest
import torch
from torch import nn

import surgery
from surgery.graph import from_exported

EXAMPLE = torch.zeros(1, 3, 8, 8)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


STATES = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "meta": lambda: torch.device("meta"),
}


def state():
    return (
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device().type,
    )


class Fills(nn.Module):
    """Makes tensors of the default dtype and device; the assignment leaves only `torch.export` to trace it."""

    def __init__(self, assigns):
        super().__init__()
        self.assigns = assigns

    def forward(self, x):
        x = x + torch.ones(3, 1, 1)
        if self.assigns:
            x[:, 0] = 0
        return x


def network(assigns):
    layers = [Fills(assigns), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)]
    return nn.Sequential(*layers).eval()


def exported(model):
    return torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim.AUTO},))


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("assigns", [False, True], ids=["symbolic", "export"])
def test_trace(name, assigns):
    model = network(assigns)
    expected = surgery.trace(model, EXAMPLE)
    with STATES[name]():
        before = state()
        graph = surgery.trace(model, torch.zeros(1, 3, 8, 8, dtype=torch.float32))
        assert state() == before
    check(graph, expected)


@pytest.mark.parametrize("name", STATES)
def test_from_exported(name):
    program = exported(network(True))
    expected = from_exported(program)
    with STATES[name]():
        before = state()
        graph = from_exported(program)
        assert state() == before
    check(graph, expected)


def check(graph, expected):
    assert str(graph.graph) == str(expected.graph)
    assert [node.meta["dtype"] for node in graph.graph.nodes] == [node.meta["dtype"] for node in expected.graph.nodes]
    assert not any(tensor.is_inference() for tensor in graph.tensors().values())
    assert all(tensor.device.type == "cpu" for tensor in graph.tensors().values())
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    torch.testing.assert_close(graph(images), expected(images), rtol=0, atol=0)
    graph(images).sum().backward()
    assert images.grad is not None
    assert all(parameter.grad is not None for parameter in graph.parameters())


def test_a_model_made_in_inference_mode_is_traced_into_ordinary_parameters():
    with torch.inference_mode():
        model = network(False)
        graph = surgery.trace(model, torch.zeros(1, 3, 8, 8))
    check(graph, surgery.trace(model, EXAMPLE))


def test_an_example_without_values_is_enough():
    model = network(True)
    check(surgery.trace(model, torch.zeros(1, 3, 8, 8, device="meta")), surgery.trace(model, EXAMPLE))

"""Tracing in one thread while other threads compute, or trace too."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import surgery

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Assigns(nn.Module):
    """A module that only the last rung, `torch.export`, can trace."""

    def forward(self, x):
        x = x.clone()
        x[:, 0] = 0
        return x


def network(*modules):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *modules, nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("modules", [(), (Assigns(),)], ids=["symbolic", "export"])
def test_other_threads_compute_as_usual_while_one_traces(modules):
    unrelated, images = network().eval(), torch.randn(2, 3, 8, 8)
    expected = unrelated(images)
    traced, outputs = threading.Event(), []

    def compute():
        while not traced.is_set():
            outputs.append(unrelated(images))
        return len(outputs)

    with ThreadPoolExecutor(1) as pool:
        count = pool.submit(compute)
        try:
            graphs = [surgery.trace(network(*modules), EXAMPLE) for _ in range(2)]
        finally:
            traced.set()
        assert count.result() > 0
    assert {graph.rung for graph in graphs} == {"export" if modules else "symbolic"}
    assert all(type(output) is torch.Tensor for output in outputs)
    # `torch.export` alone changes the last bit of a convolution in other threads while it runs.
    assert all(torch.allclose(output, expected, atol=1e-6) for output in outputs)


@pytest.mark.parametrize("modules", [(), (Assigns(),)], ids=["symbolic", "export"])
def test_several_threads_trace_one_model_at_once(modules):
    model = network(*modules).train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    barrier = threading.Barrier(3)

    def trace(_):
        barrier.wait()
        return surgery.trace(model, EXAMPLE)

    with ThreadPoolExecutor(3) as pool:
        graphs = list(pool.map(trace, range(3)))
    assert {graph.rung for graph in graphs} == {"export" if modules else "symbolic"}
    assert len({str(graph.graph) for graph in graphs}) == 1
    assert [module.training for module in model.modules()] == modes

"""Planning and applying give the same graph, whatever state of torch their caller has set."""

import contextlib

import pytest
import torch
from torch import nn

import surgery


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
RULES = """
name = "means"

[[rule]]
name = "relu-to-mean"
match = "relu(x)"
rewrite = "uniform_like(x, dim=1)"
"""


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("rules", ["fold-batch-norm", "linearize", "means.toml"])
def test_plan_and_apply(tmp_path, monkeypatch, name, rules):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "means.toml").write_text(RULES)
    graph = surgery.trace(network(), torch.zeros(1, 3, 8, 8))
    expected = surgery.apply(surgery.plan(graph, rules)).module
    with STATES[name]():
        before = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
        found = surgery.apply(surgery.plan(graph, rules)).module
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()) == before
    assert str(found.graph) == str(expected.graph)
    assert [node.meta["dtype"] for node in found.graph.nodes] == [node.meta["dtype"] for node in expected.graph.nodes]
    for key, tensor in expected.tensors().items():
        assert torch.equal(found.tensors()[key], tensor)
        assert found.tensors()[key].requires_grad == tensor.requires_grad
        assert not found.tensors()[key].is_inference()
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    assert torch.equal(found(images), expected(images))

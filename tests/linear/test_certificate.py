"""The certificate says yes to affine graphs, no to all others, and refuses to conclude where there is no signal."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.graph import computing
from surgery.linear import offenders

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.rand(3, 3, 1, 1))
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x):
        return self.function(self, x)


def attention(m, x):
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens)


NONLINEAR = {
    "gate": (lambda m, x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), "sigmoid"),
    "product of branches": (lambda m, x: x * F.conv2d(x, m.weight), "mul"),
    "attention": (attention, "scaled_dot_product_attention"),
    "written attention": (lambda m, x: torch.softmax(x @ x.transpose(-2, -1), -1) @ x, "matmul"),
    "max pool": (lambda m, x: F.max_pool2d(x, 2), "max_pool2d"),
    "train-mode batch norm": (lambda m, x: F.batch_norm(x, None, None, training=True), "batch_norm"),
    "square": (lambda m, x: x * x, "mul"),
    "power": (lambda m, x: x**2, "pow"),
    "absolute value": (lambda m, x: x.abs(), "abs"),
    "data-dependent index": (lambda m, x: m.weight[x.flatten(1).argmax(1) % 3], "argmax"),
    "gather": (lambda m, x: x.gather(1, x.argmax(1, keepdim=True)), "argmax"),
    "division": (lambda m, x: x / x.mean((1, 2, 3), keepdim=True), "div"),
    "reciprocal": (lambda m, x: 1 / x, "div"),
    "rounding": (lambda m, x: x.int(), "to"),
    "where": (lambda m, x: torch.where(x > 0, x, 0.1 * x), "gt"),
    "unknown": (lambda m, x: torch.fft.rfft2(x).real, "aten.fft_rfft2.default"),
    "softmax": (lambda m, x: x.softmax(1), "softmax"),
    "standard deviation": (lambda m, x: x - x.std((2, 3), keepdim=True), "std"),
    "dynamic convolution": (lambda m, x: F.conv2d(x, x.mean((0, 2, 3)).reshape(1, 3, 1, 1)), "conv2d"),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_it_says_no_and_names_the_first_offender(name):
    function, operation = NONLINEAR[name]
    certificate = surgery.certify(surgery.trace(Function(function), EXAMPLE))
    assert not certificate.affine
    assert certificate.verdict == "nonlinear"
    first = certificate.offenders[0]
    assert first.operation == operation
    assert first.reason
    assert first.file is not None
    assert first.file.endswith(("test_certificate.py", "functional.py"))
    assert first.line


AFFINE = {
    "constant gate": lambda m, x: x * torch.sigmoid(m.weight[0]),
    "affine chain": lambda m, x: F.avg_pool2d(F.conv2d(x, m.weight) + x, 3, padding=1) / 2 - 1,
    "fixed index": lambda m, x: x[:, m.order],
    "fixed condition": lambda m, x: torch.where(m.order[:, None, None] > 0, x, -x),
    "bilinear upsampling": lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "norm in eval mode": lambda m, x: F.batch_norm(x, m.order.float(), torch.ones(3), training=False),
    "shape arithmetic": lambda m, x: x.reshape(x.shape[0], -1) / x.shape[-1],
    "uniform weights": lambda m, x: torch.softmax(torch.zeros_like(x), -1) @ x,
    "half precision inside": lambda m, x: x.to(torch.bfloat16).float(),
}


@pytest.mark.parametrize("name", AFFINE)
def test_it_says_yes_to_what_is_affine(name):
    certificate = surgery.certify(surgery.trace(Function(AFFINE[name]), EXAMPLE))
    assert certificate.affine, certificate.reason
    assert certificate.superposition_error < certificate.tolerance
    assert certificate.output_scale > 0


def test_all_offenders_are_named_in_order_with_module_paths():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)), nn.Tanh())
    found = offenders(surgery.trace(model, EXAMPLE))
    assert [(item.operation, item.module_path) for item in found] == [
        ("relu", "1"),
        ("max_pool2d", "2.0"),
        ("tanh", "3"),
    ]


def test_a_vanished_signal_proves_nothing():
    dead = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(dead.weight)
    certificate = surgery.certify(surgery.trace(nn.Sequential(nn.Conv2d(3, 3, 3), dead), EXAMPLE))
    assert certificate.verdict == "inconclusive"
    assert not certificate.affine
    assert "zero" in certificate.reason
    assert "_1" in certificate.reason


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e308])
def test_an_infinite_or_nan_signal_proves_nothing(value):
    conv = nn.Conv2d(3, 4, 3, bias=False).double()
    nn.init.constant_(conv.weight, value)
    certificate = surgery.certify(surgery.trace(nn.Sequential(conv), EXAMPLE.double()))
    assert certificate.verdict == "inconclusive"
    assert "infinite at _0" in certificate.reason or "NaN at _0" in certificate.reason


def test_probes_contradict_a_wrong_law(monkeypatch):
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), EXAMPLE)
    monkeypatch.setattr("surgery.linear.certificate.offenders", lambda graph: ())
    certificate = surgery.certify(graph)
    assert certificate.verdict == "nonlinear"
    assert "superposition fails" in certificate.reason


def test_a_large_constant_part_does_not_hide_the_linear_one():
    layer = nn.Linear(8, 4)
    nn.init.constant_(layer.bias, 1e12)
    certificate = surgery.certify(surgery.trace(nn.Sequential(layer), torch.zeros(1, 8)))
    assert certificate.affine, certificate.reason


def test_scales_are_those_of_the_linear_part():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    for layer, gain in ((first, 3.0), (second, 1e-3)):
        layer.weight.data = gain * torch.eye(4)
        nn.init.constant_(layer.bias, 100.0)
    graph = surgery.trace(nn.Sequential(first, second), torch.zeros(1, 4))
    certificate = surgery.certify(graph, generator=torch.Generator().manual_seed(3))
    x, y = torch.randn((2, 4), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rms = float(((x - y).square().mean() / 2).sqrt())
    names = [node.name for node in computing(graph)]
    assert list(certificate.scales) == names
    assert certificate.scales[names[0]] == pytest.approx(3 * rms, rel=1e-6)
    assert certificate.output_scale == pytest.approx(3e-3 * rms, rel=1e-4)


def test_deep_networks_without_normalization_stay_finite():
    layers = [nn.Linear(16, 16, bias=False) for _ in range(40)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=2000.0)
    certificate = surgery.certify(surgery.trace(nn.Sequential(*layers), torch.zeros(1, 16)))
    assert certificate.affine
    assert 1e140 < certificate.output_scale < 1e300


class Head(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.constant = nn.Linear(8, 10), nn.Parameter(torch.ones(2))
        self.function = function

    def forward(self, x):
        return self.function(self, self.layer(x))


WITHOUT_ROWS = {
    "mean over the images": (lambda m, y: y.mean(0), "(10)"),
    "multiple of three": (lambda m, y: y.mean(0)[:9], "(9)"),
    "fewer than three": (lambda m, y: y.mean(0)[:2], "(2)"),
    "number": (lambda m, y: y.sum(), "()"),
    "images last": (lambda m, y: y.T, "(10, N)"),
    "one of two outputs": (lambda m, y: {"a": y, "b": [y.sum(0)]}, "(10)"),
    "constant": (lambda m, y: (y, m.constant), "(2)"),
}


@pytest.mark.parametrize("name", WITHOUT_ROWS)
def test_an_output_without_rows_for_the_images_proves_nothing(name):
    function, shape = WITHOUT_ROWS[name]
    certificate = surgery.certify(surgery.trace(Head(function), torch.zeros(1, 8)))
    assert certificate.verdict == "inconclusive"
    assert f"the shape {shape}, whose first dimension is not the images" in certificate.reason


@pytest.mark.parametrize("function", [lambda m, y: y.chunk(2, 1), lambda m, y: (y, None, y.shape[0])])
def test_outputs_that_are_not_all_tensors_are_certified(function):
    assert surgery.certify(surgery.trace(Head(function), torch.zeros(1, 8))).affine


def test_certifying_changes_neither_graph_nor_random_state():
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), EXAMPLE)
    before = {name: tensor.clone() for name, tensor in graph.tensors().items()}
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    surgery.certify(graph)
    assert torch.equal(torch.rand(2), expected)
    assert all(
        torch.equal(before[name], tensor) and tensor.dtype == torch.float32 for name, tensor in graph.tensors().items()
    )

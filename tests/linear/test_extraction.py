"""W and b: laws of an affine map, equality with Algorithm 1, and refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.errors import CertificateError, InputError
from surgery.linear import extract, local_map
from surgery.linear.probe import run
from surgery.models import build


def in_float64(graph, images):
    value = None
    for _, computed in run(graph, images.double()):
        value = computed
    return value


class Everything(nn.Module):
    """Branches, strides, groups, biases, pooling, concatenation, splitting, upsampling, attention."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2, padding_mode="reflect")
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=4)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.grouped(F.max_pool2d(x, 3, 1, 1))
        a, b = self.up(x)[:, :, ::2, 1::2].repeat(1, 2, 1, 1).chunk(2, 1)
        x = torch.cat([a, b - 0.5], 1) + F.interpolate(F.adaptive_avg_pool2d(x, 2), scale_factor=4, mode="bilinear")
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(torch.cat([mixed[:, 0], tokens.mean(1)], 1))


@pytest.fixture(scope="module")
def everything():
    torch.manual_seed(0)
    return surgery.linearize(Everything(), torch.zeros(1, 3, 16, 16)).module


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_the_map_equals_the_network(everything, dtype, tolerance):
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    found = extract(everything, dtype=dtype)
    assert (found.weight.shape, found.matrix.shape, found.bias.shape) == ((5, 3, 16, 16), (768, 5), (5,))
    expected = in_float64(everything, images)
    assert float((found(images) - expected).abs().max() / expected.abs().max()) < tolerance


def test_it_equals_algorithm_1_class_by_class():
    torch.manual_seed(0)
    graph = surgery.linearize(build("resnet18", width=8), torch.zeros(1, 3, 32, 32)).module
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    rows = [torch.autograd.grad(graph(image)[0, k], image)[0][0] for k in range(10)]
    torch.testing.assert_close(extract(graph).weight, torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_the_gradient_does_not_depend_on_the_image(everything):
    maps = []
    for seed in range(2):
        image = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(seed))
        maps.append(local_map(everything, image).weight)
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps[0], extract(everything).weight, rtol=1e-4, atol=1e-5)


def test_chunks_change_nothing(everything):
    whole = extract(everything, dtype=torch.float64)
    small = extract(everything, dtype=torch.float64, max_memory=1)
    assert small.provenance["chunk"] == 1
    torch.testing.assert_close(small.weight, whole.weight)


def test_a_waist_saves_products():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 50))
    graph = surgery.linearize(model, torch.zeros(1, 3, 8, 8)).module
    calls = []
    found = extract(graph, dtype=torch.float64, progress=lambda done, total: calls.append((done, total)))
    assert found.provenance["products"] == 4
    assert calls[-1] == (4, 4)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(found(images), in_float64(graph, images))


@pytest.mark.parametrize("at", ["layer3", "layer3.1", "layer1_0_add"])
def test_inner_nodes_have_maps_too(at):
    torch.manual_seed(0)
    graph = surgery.linearize(build("resnet18", width=2), torch.zeros(1, 3, 16, 16)).module
    found = extract(graph, at=at, dtype=torch.float64)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    values = {node.name: value.clone() for node, value in run(graph, images) if isinstance(value, torch.Tensor)}
    torch.testing.assert_close(found(images), values[found.provenance["node"]].flatten(1))
    assert found.output_shape == tuple(values[found.provenance["node"]].shape[1:])


class Windowed(nn.Module):
    """A layer inside windows, as in Swin transformers: 4*N rows for N images."""

    def __init__(self):
        super().__init__()
        self.inside, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        windows = x.reshape(x.shape[0], 3, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(x.shape[0] * 4, 16, 3)
        a, b = self.inside(windows).reshape(x.shape[0], 64, 4).split(32, 1)
        return self.head(a.mean(1) - b.mean(1)).T


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("inside", r"inside has the shape \(4\*N, 16, 4\); expected \(N, \.\.\.\)"),
        ("split", "split is not one tensor"),
        ("transpose", r"shape \(3, N\)"),
    ],
)
def test_a_node_without_one_row_for_each_image_is_refused(at, message):
    graph = surgery.trace(Windowed(), torch.zeros(1, 3, 8, 8))
    certificate = surgery.certify(surgery.linear.features_at(graph, "head"))
    with pytest.raises(InputError, match=message):
        extract(graph, at=at, certificate=certificate)


def test_behind_windows_there_is_a_map():
    torch.manual_seed(0)
    graph = surgery.linear.features_at(surgery.trace(Windowed(), torch.zeros(1, 3, 8, 8)), "head")
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(extract(graph, dtype=torch.float64)(images), in_float64(graph, images))


def test_an_unknown_node_suggests_the_nearest(everything):
    with pytest.raises(InputError, match="did you mean 'head'"):
        extract(everything, at="haed")


def test_a_network_that_is_not_affine_is_refused_with_its_offenders():
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))
    with pytest.raises(CertificateError, match=r"relu.*nonlinear") as caught:
        extract(graph)
    assert "_1 (relu)" in str(caught.value)


def test_a_module_a_graph_and_a_linearized_network_have_the_same_map():
    torch.manual_seed(0)
    model, image = build("resnet18", width=2), torch.zeros(1, 3, 16, 16)
    result = surgery.linearize(model, image)
    expected = extract(result)
    for found in (
        extract(result.module),
        extract(model, image, rules="linearize"),
        extract(surgery.trace(model, image), rules=["linearize"]),
        extract(surgery.linearize(surgery.trace(model, image))),
    ):
        assert torch.equal(found.weight, expected.weight)
        assert found.certificate == result.certificate


def test_rules_leave_an_affine_graph_as_it_is():
    torch.manual_seed(0)
    model, image = build("resnet18", width=2), torch.zeros(1, 3, 16, 16)
    graph = surgery.linearize(model, image, rules="linearize-keep-bn").module
    assert torch.equal(extract(graph, rules="linearize").weight, extract(graph).weight)


def test_a_module_without_an_example_is_refused():
    with pytest.raises(InputError, match="Conv2d has to be traced; expected an example input"):
        extract(nn.Conv2d(3, 4, 3))


def test_a_map_prints_itself_on_one_screen(everything):
    found = extract(everything, class_names=("<a>", "b", "c", "d", "e"))
    text = str(found)
    assert repr(found) == text
    assert "Linear map of Everything" in text
    assert "weight (5, 3, 16, 16)" in text
    assert "5 outputs: <a>, b, c, d, e" in text
    assert len(text.splitlines()) < 25
    assert "&lt;a&gt;" in found._repr_html_()


def test_a_certificate_of_another_graph_does_not_help():
    linear = surgery.linearize(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 8, 8))
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))
    with pytest.raises(CertificateError):
        extract(graph, certificate=linear.certificate)


def test_scales_that_float32_cannot_hold_are_met_in_float64():
    layers = [nn.Linear(16, 16) for _ in range(40)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=20.0)
    graph = surgery.linearize(nn.Sequential(*layers), torch.zeros(1, 16)).module
    found = extract(graph)
    assert found.provenance["dtype"] == "float64"
    assert found.weight.isfinite().all()
    vectors = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(found(vectors), in_float64(graph, vectors), rtol=1e-9, atol=0)


def test_a_local_map_is_exact_at_its_image():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    image = torch.randn(3, 8, 8)
    found = local_map(model, image)
    torch.testing.assert_close(found(image[None]), model(image[None]).detach())


def test_extracting_leaves_the_graph_alone(everything):
    before = {name: tensor.clone() for name, tensor in everything.tensors().items()}
    extract(everything)
    assert all(torch.equal(before[name], tensor) for name, tensor in everything.tensors().items())
    assert all(parameter.grad is None for parameter in everything.parameters())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [2, 4, (4, 3), (1, 6)])
@pytest.mark.parametrize("dilation", [1, 3])
def test_padding_same_with_an_even_kernel_pads_one_more_zero_at_the_end(kernel, dilation):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, kernel, padding="same", dilation=dilation, groups=1), nn.Flatten(), nn.Linear(4 * 7 * 9, 5)
    ).double()
    images = torch.randn(3, 3, 7, 9, dtype=torch.float64)
    found = extract(net, images[:1], dtype=torch.float64)
    torch.testing.assert_close(found(images), net(images), rtol=1e-10, atol=1e-10)

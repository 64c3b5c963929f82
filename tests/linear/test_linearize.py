"""The linear sub-network: equal to one written by hand, affine for every kind of architecture."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery import models
from surgery.errors import CertificateError, InputError, RuleError
from surgery.graph import KINDS, computing
from surgery.linear import apply_checked, compare


def operations(graph):
    return [node.meta["operation"] for node in computing(graph)]


def hand_resnet(state, images, blocks, bottleneck):
    """The CIFAR ResNet of the paper with normalization and activations left out, written with functions."""

    def conv(x, name, stride=1, padding=0):
        return F.conv2d(x, state[f"{name}.weight"], None, stride, padding)

    x = conv(images, "conv1", 1, 1)
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            path = f"layer{stage}.{block}"
            stride = 2 if block == 0 and stage > 1 else 1
            if bottleneck:
                y = conv(conv(conv(x, f"{path}.conv1"), f"{path}.conv2", stride, 1), f"{path}.conv3")
            else:
                y = conv(conv(x, f"{path}.conv1", stride, 1), f"{path}.conv2", 1, 1)
            shortcut = f"{path}.shortcut.0.weight"
            x = y + (F.conv2d(x, state[shortcut], None, stride) if shortcut in state else x)
    return F.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize(
    ("name", "blocks", "bottleneck"),
    [("resnet18", (2, 2, 2, 2), False), ("resnet34", (3, 4, 6, 3), False), ("resnet50", (3, 4, 6, 3), True)],
)
def test_a_cifar_resnet_equals_one_written_by_hand(name, blocks, bottleneck):
    torch.manual_seed(0)
    model = models.build(name, width=8)
    images = torch.randn(3, 3, 32, 32)
    result = surgery.linearize(model, images[:1])
    state = model.state_dict()
    wanted = {key for key in state if ("conv" in key or "shortcut.0" in key or "linear" in key) and "num" not in key}
    assert set(result.module.state_dict()) == wanted
    assert all(torch.equal(result.module.state_dict()[key], state[key]) for key in wanted)
    with torch.no_grad():
        torch.testing.assert_close(result.module(images), hand_resnet(state, images, blocks, bottleneck))
    assert result.certificate.affine


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vgg_equals_one_written_by_hand(name):
    torch.manual_seed(0)
    model = models.build(name, width=8)
    images = torch.randn(3, 3, 32, 32)
    result = surgery.linearize(model, images[:1])
    layers = [
        nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding) if isinstance(layer, nn.MaxPool2d) else layer
        for layer in model.modules()
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear))
    ]
    with torch.no_grad():
        x = images
        for layer in layers:
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
        torch.testing.assert_close(result.module(images), x)
    assert result.certificate.affine


def test_every_edit_is_counted_and_logged():
    result = surgery.linearize(models.build("resnet18", width=8), torch.zeros(1, 3, 32, 32))
    fired = {rule: count for rule, count in result.plan.counts().items() if count}
    assert fired == {"drop-activation": 17, "drop-batch-norm": 20}
    assert len(result.log) == 37
    assert not {"relu", "batch_norm"} & set(operations(result.module))


def test_a_graph_is_linearized_without_an_example():
    model = models.build("resnet18", width=8)
    graph = surgery.trace(model, torch.zeros(1, 3, 32, 32))
    result = surgery.linearize(graph)
    assert result.before is graph
    assert result.certificate == surgery.linearize(model, torch.zeros(1, 3, 32, 32)).certificate
    with pytest.raises(InputError, match="ResNet has to be traced; expected an example input"):
        surgery.linearize(model)


def test_a_result_that_is_not_affine_is_refused_on_request():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, dilation=2))
    assert not surgery.linearize(model, torch.zeros(1, 3, 12, 12)).certificate.affine
    with pytest.raises(CertificateError, match="not certified affine: _1 "):
        surgery.linearize(model, torch.zeros(1, 3, 12, 12), require_affine=True)


def test_a_rule_that_does_not_fire_is_refused_unless_told_otherwise(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text('name = "mine"\n[[rule]]\nname = "one"\nmatch = "softmax(x)"\nrewrite = "x"\nexpect = ">=1"\n')
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuleError, match="'one'"):
        surgery.linearize(graph, rules=path)
    assert surgery.linearize(graph, rules=path, strict=False).certificate.affine


def test_what_rules_promise_is_checked():
    graph = surgery.trace(models.build("resnet18", width=2), torch.zeros(1, 3, 16, 16))
    folded = apply_checked(surgery.plan(graph, "fold-batch-norm"))
    assert folded.failure is None
    assert folded.comparison is not None
    assert folded.certificate is None
    promised = apply_checked(surgery.plan(graph, "fold-batch-norm"), promise="affine")
    assert promised.failure is not None
    assert "not certified affine" in promised.failure
    nothing = apply_checked(surgery.plan(graph, "relu-to-softplus"))
    assert (nothing.failure, nothing.certificate, nothing.comparison) == (None, None, None)


def test_a_linearized_network_prints_itself_on_one_screen():
    result = surgery.linearize(models.build("resnet18", width=2), torch.zeros(1, 3, 16, 16))
    text = str(result)
    assert repr(result) == text
    for part in ("ResNet linearized by linearize", "drop-batch-norm  20", "Certificate: affine", "of the output"):
        assert part in text
    assert len(text.splitlines()) < 25
    assert text.splitlines()[0] in result._repr_html_()
    certificate = surgery.certify(result.before)
    assert "17 operations not affine" in str(certificate)
    assert "and 7 more" in str(certificate)
    assert "relu" in certificate._repr_html_()


def test_batch_norm_can_stay():
    model = models.build("resnet18", width=8).eval()
    result = surgery.linearize(model, torch.zeros(1, 3, 32, 32), rules="linearize-keep-bn")
    assert operations(result.module).count("batch_norm") == 20
    assert result.certificate.affine


class Gated(nn.Module):
    """Squeeze-and-excitation, as spelled by `gate`."""

    def __init__(self, gate):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.gate = gate

    def forward(self, x):
        x = F.silu(self.conv(x))
        return self.gate(x, self.squeeze(x.mean((2, 3), keepdim=True))).mean((2, 3))


GATES = {
    "sigmoid": lambda x, s: x * torch.sigmoid(s),
    "other way round": lambda x, s: F.hardsigmoid(s) * x,
    "in place": lambda x, s: x.mul_(s.sigmoid()),
    "expanded": lambda x, s: x * torch.sigmoid(s).expand_as(x),
    "reshaped": lambda x, s: x * torch.sigmoid(s.flatten(1)).view(x.shape[0], -1, 1, 1),
    "reshaped and expanded": lambda x, s: x * torch.sigmoid(s.flatten(1)).view(x.shape[0], -1, 1, 1).expand_as(x),
    "softmax": lambda x, s: x * torch.softmax(s, 1),
    "relu": lambda x, s: x * F.relu(s),
    "spelled-out hard swish": lambda x, s: x * F.relu6(x + 3) / 6,
}


@pytest.mark.parametrize("name", GATES)
def test_gates_go_and_the_value_stays(name):
    torch.manual_seed(0)
    model = Gated(GATES[name]).eval()
    images = torch.randn(2, 3, 8, 8)
    result = surgery.linearize(model, images[:1])
    assert result.certificate.affine, result.certificate.reason
    with torch.no_grad():
        torch.testing.assert_close(result.module(images), model.conv(images).mean((2, 3)))
    assert not any("squeeze" in key for key in result.module.state_dict())


def test_a_gate_is_not_dropped_outside_its_module(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        'name = "mine"\n[[rule]]\nname = "drop-gate"\nmatch = "mul(x, gate(_))"\nrewrite = "x"\n'
        'where = { module = "first" }\n'
    )

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Gated(GATES["sigmoid"]), Gated(GATES["sigmoid"])
            self.first.forward = self.second.forward = None
            del self.first.forward, self.second.forward

        def forward(self, x):
            return self.first(x) + self.second(x)

    graph = surgery.trace(Two(), torch.zeros(1, 3, 8, 8))
    after = surgery.apply(surgery.plan(graph, path)).module
    left = [node.meta["module_path"] for node in computing(after) if node.meta["operation"] == "sigmoid"]
    assert left == ["second"]


ATTENTION = {
    "fused": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "written out": lambda q, k, v: torch.softmax(q @ k.transpose(-2, -1) / 2, dim=-1) @ v,
    "with dropout": lambda q, k, v: F.dropout(torch.softmax(q @ k.mT, dim=-1), 0.1, False) @ v,
    "einsum": lambda q, k, v: torch.einsum("nqk,nkd->nqd", torch.softmax(torch.einsum("nqd,nkd->nqk", q, k), dim=2), v),
}


class Attention(nn.Module):
    def __init__(self, attend):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.attend = attend

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.attend(q, k, v)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_becomes_the_mean_of_its_values(name):
    torch.manual_seed(0)
    model = Attention(ATTENTION[name]).eval()
    tokens = torch.randn(3, 5, 8)
    result = surgery.linearize(model, tokens[:1])
    assert result.certificate.affine, result.certificate.reason
    with torch.no_grad():
        values = model.qkv(tokens).chunk(3, -1)[2]
        torch.testing.assert_close(result.module(tokens), tokens + values.mean(1, keepdim=True).expand_as(values))
    assert result.module(tokens[:1]).shape == (1, 5, 8)


def test_a_softmax_at_the_output_becomes_logits():
    model = nn.Sequential(nn.Linear(8, 4), nn.Softmax(dim=1))
    result = surgery.linearize(model, torch.zeros(1, 8))
    assert operations(result.module) == ["linear"]
    assert result.certificate.affine


def test_gated_linear_units_keep_their_value_path():
    class Unit(nn.Module):
        def forward(self, x):
            a, b = x.chunk(2, -1)
            return F.glu(x, -1) + F.silu(b) * a

    result = surgery.linearize(Unit(), torch.zeros(1, 8))
    x = torch.randn(3, 8)
    torch.testing.assert_close(result.module(x), 2 * x[:, :4])
    assert result.certificate.affine


def test_a_dilated_max_pool_is_a_near_miss_and_an_offender():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, dilation=2))
    result = surgery.linearize(model, torch.zeros(1, 3, 12, 12))
    assert not result.certificate.affine
    assert result.certificate.offenders[0].operation == "max_pool2d"
    assert any("dilation=(2, 2), not 1" in miss.reason for miss in result.plan.near_misses)


def test_pools_keep_their_windows():
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AdaptiveMaxPool2d(2))
    result = surgery.linearize(model, torch.zeros(1, 3, 16, 16))
    images = torch.randn(2, 3, 16, 16)
    wanted = F.adaptive_avg_pool2d(F.avg_pool2d(images, 3, 2, 1, ceil_mode=True), 2)
    torch.testing.assert_close(result.module(images), wanted)


FOLDS = {
    "convolution": nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    "no bias, groups": nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6, affine=False)),
    "transposed": nn.Sequential(nn.ConvTranspose2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5)),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folding_keeps_the_function(name):
    torch.manual_seed(0)
    model = FOLDS[name].double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.1, 3)
            if module.affine:
                module.weight.data.uniform_(0.1, 3)
                module.bias.data.normal_()
    graph = surgery.trace(model, torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    folded = surgery.apply(surgery.plan(graph, "fold-batch-norm")).module
    assert "batch_norm" not in operations(folded)
    comparison = compare(graph, folded)
    assert comparison.same
    assert comparison.difference < 1e-12


def test_folding_leaves_a_norm_that_follows_nothing():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1))
    graph = surgery.trace(model, torch.zeros(1, 3, 8, 8))
    planned = surgery.plan(graph, "fold-batch-norm")
    assert not planned.edits
    assert any("where convolution is expected" in miss.reason for miss in planned.near_misses)


def test_models_with_several_outputs_compare():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.norm(self.conv(x))
            return {"a": y, "b": [y.mean((2, 3))]}

    graph = surgery.trace(Two(), torch.zeros(1, 3, 8, 8))
    assert compare(graph, surgery.apply(surgery.plan(graph, "fold-batch-norm")).module).same
    assert surgery.linearize(Two(), torch.zeros(1, 3, 8, 8)).certificate.affine


def test_a_broken_promise_is_seen():
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))
    softened = surgery.apply(surgery.plan(graph, "relu-to-softplus")).module
    assert not compare(graph, softened).same
    assert set(KINDS["activation"]) & set(operations(softened)) == {"softplus"}


FAMILIES = ["alexnet", "squeezenet1_1", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5"]
FAMILIES += ["regnet_y_400mf", "mnasnet0_5", "resnext50_32x4d", "googlenet", "convnext_tiny", "swin_t", "vit_b_32"]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torchvision's own, on the initialization of googlenet
@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_families_trace_exactly_and_linearize(name):
    torch.manual_seed(0)
    model = models.build(f"torchvision:{name}").eval()
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.trunc_normal_(parameter, std=0.02)
    size = 224 if name.startswith("vit") else 96  # a vision transformer is built for one size
    images = torch.randn(2, 3, size, size)
    result = surgery.linearize(model, images[:1])
    with torch.no_grad():
        torch.testing.assert_close(result.before(images), model(images))
    assert result.certificate.affine, result.certificate.reason


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "nfnet_f0", "mixer_s32_224", "levit_128s", "edgenext_xx_small"]
)
def test_timm_families_trace_exactly_and_linearize(name):
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model = models.build(f"timm:{name}").eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.trunc_normal_(parameter, std=0.02)
    images = torch.randn(2, *models.default_input_shape(f"timm:{name}"))
    result = surgery.linearize(model, images[:1])
    with torch.no_grad():
        torch.testing.assert_close(result.before(images), model(images))
    assert result.certificate.affine, result.certificate.reason

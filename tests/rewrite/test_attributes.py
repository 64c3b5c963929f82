"""Attributes that a rewrite does not name are those of the operation that it replaces, if the two are of one kind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.errors import RewriteError, RuleError
from surgery.graph import OPERATIONS, computing
from surgery.graph.operation import keeps_attributes

EXAMPLE = torch.zeros(1, 4, 9, 9)


def ruleset(tmp_path, match, rewrite, more=""):
    path = tmp_path / "rules.toml"
    path.write_text(f"name = 'test'\n[[rule]]\nname = 'r'\nmatch = '{match}'\nrewrite = '{rewrite}'\n{more}\n")
    return surgery.load_rules(path)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(4, 2, 3, 3))

    def forward(self, x):
        return self.function(self, x)


KEPT = [
    (nn.MaxPool2d(3, 2, 1), "max_pool2d(x)", "avg_pool2d(x)", lambda x: F.avg_pool2d(x, 3, 2, 1)),
    (nn.MaxPool2d(2, ceil_mode=True), "max_pool2d(x)", "avg_pool2d(x)", lambda x: F.avg_pool2d(x, 2, ceil_mode=True)),
    (
        nn.MaxPool2d(3, 2, 1),
        "max_pool2d(x)",
        "avg_pool2d(x, count_include_pad=false)",
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    (nn.MaxPool2d(2), "max_pool2d(x)", "avg_pool2d(x, kernel_size=3)", lambda x: F.avg_pool2d(x, 3, 2)),
    (nn.AdaptiveMaxPool2d(3), "max_pooling(x)", "adaptive_avg_pool2d(x)", lambda x: F.adaptive_avg_pool2d(x, 3)),
    (Function(lambda m, x: x.amax((2, 3), True)), "amax(x)", "mean(x)", lambda x: x.mean((2, 3), True)),
    (nn.Softmax(dim=1), "softmax(x)", "log_softmax(x)", lambda x: x.log_softmax(1)),
    (nn.LeakyReLU(0.25), "leaky_relu(relu(x))", "leaky_relu(x)", lambda x: F.leaky_relu(x, 0.25)),
]


@pytest.mark.parametrize(("model", "match", "rewrite", "expected"), KEPT)
def test_attributes_that_a_rewrite_does_not_name_are_kept(tmp_path, model, match, rewrite, expected):
    model = nn.Sequential(nn.ReLU(), model) if "relu(relu" in match else model
    found = surgery.apply(surgery.plan(surgery.trace(model, EXAMPLE), ruleset(tmp_path, match, rewrite))).module
    images = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(found(images), expected(images))


def test_convolutions_keep_stride_padding_and_groups(tmp_path):
    graph = surgery.trace(Function(lambda m, x: F.conv2d(x, m.weight, None, 2, 1, 1, 2)), EXAMPLE)
    rules = ruleset(tmp_path, "conv2d(x, w)", "conv2d(x, abs(w))", "where = { parameter = ['w'] }")
    found = surgery.apply(surgery.plan(graph, rules)).module
    images, weight = torch.randn(2, 4, 9, 9), graph.tensors()["weight"]
    torch.testing.assert_close(found(images), F.conv2d(images, weight.abs(), None, 2, 1, 1, 2))


KINDS = [
    ("max_pool2d", "avg_pool2d", True),
    ("max_pool2d", "max_pool2d", True),
    ("conv2d", "conv_transpose2d", True),
    ("amax", "mean", True),
    ("layer_norm", "rms_norm", True),
    ("threshold", "softplus", False),
    ("repeat", "repeat_interleave", False),
    ("max_pool2d", "relu", False),
    ("relu", "gelu", False),
    ("threshold", "threshold", True),
]


@pytest.mark.parametrize(("old", "new", "kept"), KINDS)
def test_kinds_say_which_operations_keep_attributes(old, new, kept):
    assert keeps_attributes(OPERATIONS[old], OPERATIONS[new]) is kept
    assert keeps_attributes(OPERATIONS[new], OPERATIONS[old]) is kept


def test_attributes_of_another_kind_are_the_defaults(tmp_path):
    graph = surgery.trace(nn.Threshold(0.5, 0.0), EXAMPLE)
    [node] = computing(surgery.apply(surgery.plan(graph, ruleset(tmp_path, "threshold(x)", "softplus(x)"))).module)
    assert node.kwargs["threshold"] == 20.0


@pytest.mark.parametrize("rewrite", ["avg_pool2d(x)", "mul(avg_pool2d(x), 4)"])
def test_a_needed_attribute_that_nothing_gives_is_a_mistake(tmp_path, rewrite):
    match = "relu(x)" if rewrite.startswith("avg") else "max_pool2d(x)"
    with pytest.raises(RuleError, match="avg_pool2d needs the attribute 'kernel_size'"):
        ruleset(tmp_path, match, rewrite)


def test_a_kind_may_have_operations_without_the_attribute(tmp_path):
    rules = ruleset(tmp_path, "max_pooling(x)", "avg_pool2d(x)")
    assert surgery.plan(surgery.trace(nn.MaxPool2d(3), EXAMPLE), rules).edits
    with pytest.raises(RewriteError, match="avg_pool2d needs the attribute 'kernel_size'"):
        surgery.plan(surgery.trace(nn.AdaptiveMaxPool2d(3), EXAMPLE), rules)

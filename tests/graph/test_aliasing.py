"""In-place operations and views: a graph has no memory, so what models do to theirs is resolved or refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.errors import TraceError
from surgery.graph import KINDS, OPERATIONS, computing

EXAMPLE = torch.zeros(1, 4, 8, 8)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(self, x * 1)


def traced(function):
    model = Function(function).eval()
    graph = surgery.trace(model, EXAMPLE)
    images = torch.randn(5, 4, 8, 8)
    torch.testing.assert_close(graph(images), model(images))
    return graph


def after(view, read=lambda value: value):
    """A view is made, its base overwritten, and then the view is read."""

    def function(m, x):
        value = view(x)
        x.relu_()
        return read(value)

    return function


def before(view):
    """A view is made and overwritten, and then its base is read."""

    def function(m, x):
        value = view(x)
        value.relu_()
        return x + 1

    return function


SINGLE = {
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "view": lambda x: x.view(x.shape[0], 4, 64),
    "flatten": lambda x: x.flatten(1),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, 2),
    "squeeze": lambda x: x.squeeze(1),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "slice": lambda x: x[:, 1:],
    "select": lambda x: x.select(1, 2),
    "narrow": lambda x: x.narrow(1, 0, 2),
    "contiguous": lambda x: x.contiguous(),
    "to": lambda x: x.to(torch.float32),
    "float": lambda x: x.float(),
    "type_as": lambda x: x.type_as(torch.zeros(1)),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "dropout2d": lambda x: F.dropout2d(x, 0.5, False),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, False),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: x.split(2, 1)[0],
    "tensor_split": lambda x: x.tensor_split(2, 1)[0],
    "unbind": lambda x: x.unbind(1)[3],
    "chunk of a view": lambda x: x.permute(0, 2, 3, 1).chunk(2, -1)[0],
    "detach": lambda x: x.detach(),
    "expand": lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1, -1),
}


@pytest.mark.parametrize("view", SINGLE.values(), ids=SINGLE)
def test_a_view_shows_what_is_written_into_its_base(view):
    traced(after(view))


@pytest.mark.parametrize(
    "view", [view for name, view in SINGLE.items() if name != "expand"], ids=[n for n in SINGLE if n != "expand"]
)
def test_a_base_shows_what_is_written_into_its_view(view):
    traced(before(view))


@pytest.mark.parametrize("split", ["chunk", "split", "tensor_split", "unbind"])
def test_a_tuple_of_views_shows_what_is_written_into_its_base(split):
    arguments = (1,) if split == "unbind" else (2, 1)
    traced(after(lambda x: getattr(x, split)(*arguments), read=lambda parts: parts[0] + 1))


def test_parts_that_do_not_overlap_are_written_separately():
    def function(m, x):
        a, b = x.chunk(2, 1)
        a.relu_()
        b.mul_(2)
        return torch.cat([a, b], 1)

    graph = traced(function)
    assert graph.rung == "symbolic"
    assert "relu" in [node.meta["operation"] for node in computing(graph)]


def test_what_torch_export_gets_wrong_as_well_is_refused():
    with pytest.raises(TraceError, match=r"(?s)read later through a view.*differs from the model"):
        traced(after(lambda x: torch.einsum("nchw->nhwc", x)))


def test_items_of_an_expanded_tensor_overlap():
    def function(m, x):
        a, b = x.unsqueeze(0).expand(2, -1, -1, -1, -1).unbind(0)
        a.relu_()
        return b + 1

    traced(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x.requires_grad_() + 1,
        lambda m, x: x.mul_(2).add_(1),
        lambda m, x: x.add_(1).view(x.shape[0], -1).mul_(3),
    ],
)
def test_methods_in_place_are_read_on_the_first_rung(function):
    assert traced(function).rung == "symbolic"


@pytest.mark.parametrize("operator", ["//=", "%=", "**="])
def test_every_operator_in_place_reaches_other_names(operator):
    scope = {}
    exec(f"def function(m, x):\n    y = x\n    x {operator} 2\n    return y + x", scope)
    traced(scope["function"])


def test_an_operation_in_place_keeps_the_dtype_of_its_tensor():
    def function(m, x):
        x = x.half()
        x += torch.full((1,), 1.0 / 3.0)
        return x

    assert traced(function)(torch.zeros(1, 4, 8, 8)).dtype == torch.float16


TRIED = {
    "channel_shuffle": {"groups": 1},
    "flip": {"dims": ()},
    "repeat": {"repeats": (1, 1, 1, 1)},
    "tile": {"dims": (1,)},
    "roll": {"shifts": 0, "dims": 0},
    "pad": {"pad": (0, 0)},
    "pixel_shuffle": {"upscale_factor": 1},
    "pixel_unshuffle": {"downscale_factor": 1},
    "repeat_interleave": {"repeats": 1, "dim": 0},
    "interpolate": {"size": (8, 8)},
    "adaptive_avg_pool2d": {"output_size": 8},
    "adaptive_max_pool2d": {"output_size": 8},
    "avg_pool2d": {"kernel_size": 1},
    "max_pool2d": {"kernel_size": 1},
    "sum": {"dim": ()},
    "mean": {"dim": ()},
    "amax": {"dim": ()},
    "cumsum": {"dim": 0},
    "clamp": {"min": -100.0},
    "threshold": {"threshold": -100.0, "value": 0.0},
    "squeeze": {},
    "reshape": {"shape": (1, 4, 8, 8)},
    "to": {},
    "chunk": {"chunks": 1},
    "split": {"split_size_or_sections": 1},
    "tensor_split": {"indices_or_sections": 1},
    "unbind": {},
    **{name: {"training": False} for name in KINDS["stochastic"] if name != "dropout1d"},
    **{name: {} for name in KINDS["activation"] if name not in ("clamp", "threshold", "prelu")},
    **{name: {} for name in ("clone", "neg", "tril", "triu", "normalize", "contiguous", "flatten")},
    **{name: {"dim": 0} for name in ("softmax", "log_softmax", "softmin", "unsqueeze")},
}


@pytest.mark.parametrize("name", sorted(TRIED))
def test_only_operations_that_are_marked_as_views_share_memory(name):
    operation, x = OPERATIONS[name], torch.randn(1, 4, 8, 8)
    defaults = {key: value for key, value in operation.attributes.items() if value is not ...}
    result = operation.function(x, **{**defaults, **TRIED[name]})
    parts = result if isinstance(result, (tuple, list)) else [result]
    shares = any(part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for part in parts)
    assert operation.view or not shares

"""Every operation's law, held against what the operation does to numbers."""

import math

import pytest
import torch
import torch.nn.functional as F

from surgery.graph import KINDS, OPERATIONS, operation_name, trace
from surgery.graph.operation import define
from surgery.graph.spelling import ALIASES, ATEN_READERS, READERS, _without_mark

IMAGE = (4, 8, 8)
SAMPLES = {
    # name: (attributes, shapes of the further operands); the first operand is (batch, *IMAGE) unless named in OTHER
    "conv1d": ({}, [(5, 4, 3), (5,)]),
    "conv2d": ({}, [(5, 4, 3, 3), (5,)]),
    "conv3d": ({}, [(5, 4, 3, 3, 3), (5,)]),
    "conv_transpose1d": ({}, [(4, 5, 3), (5,)]),
    "conv_transpose2d": ({}, [(4, 5, 3, 3), (5,)]),
    "conv_transpose3d": ({}, [(4, 5, 3, 3, 3), (5,)]),
    "avg_pool1d": ({"kernel_size": 2}, []),
    "avg_pool2d": ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, []),
    "avg_pool3d": ({"kernel_size": 2}, []),
    "adaptive_avg_pool1d": ({"output_size": 3}, []),
    "adaptive_avg_pool2d": ({"output_size": 3}, []),
    "adaptive_avg_pool3d": ({"output_size": 3}, []),
    "batch_norm": ({}, [(4,), (4,), (4,), (4,)]),
    "instance_norm": ({"use_input_stats": False}, [(4,), (4,), (4,), (4,)]),
    **{name: ({"training": False}, []) for name in KINDS["stochastic"]},
    "linear": ({}, [(5, 8), (5,)]),
    "bilinear": ({}, [(1, *IMAGE), (3, 8, 8), (3,)]),
    "matmul": ({}, [(8, 3)]),
    "add": ({}, [(8,)]),
    "sub": ({}, [(8,)]),
    "mul": ({}, [(8,)]),
    "div": ({}, [(8,)]),
    "pow": ({}, [1]),
    "neg": ({}, []),
    "masked_fill": ({"value": 2.0}, [torch.eye(8, dtype=torch.bool)]),
    "mean": ({"dim": (1,)}, []),
    "sum": ({"dim": (1, 2)}, []),
    "cumsum": ({"dim": 1}, []),
    "reshape": ({"shape": (-1, 4, 64)}, []),
    "flatten": ({"start_dim": 1}, []),
    "unflatten": ({"dim": 1, "sizes": (2, 2)}, []),
    "permute": ({"dims": (0, 3, 1, 2)}, []),
    "transpose": ({"dim0": 1, "dim1": 2}, []),
    "squeeze": ({}, []),
    "unsqueeze": ({"dim": 1}, []),
    "expand": ({"size": (2, -1, -1, -1, -1)}, []),
    "contiguous": ({}, []),
    "narrow": ({"dim": 1, "start": 1, "length": 2}, []),
    "select": ({"dim": 1, "index": 2}, []),
    "slice": ({"dim": 1, "start": 1, "end": 3}, []),
    "unfold": ({"dimension": 2, "size": 3, "step": 2}, []),
    "diagonal": ({"dim1": 2, "dim2": 3}, []),
    "getitem": ({"index": (slice(None), 1)}, []),
    "expand_as": ({}, [(2, 1, *IMAGE)]),
    "view_as": ({}, [(1, *IMAGE)]),
    "clone": ({}, []),
    "roll": ({"shifts": 2, "dims": 2}, []),
    "flip": ({"dims": (2,)}, []),
    "repeat": ({"repeats": (1, 2, 1, 1)}, []),
    "tile": ({"dims": (1, 2, 1, 1)}, []),
    "repeat_interleave": ({"repeats": 2, "dim": 1}, []),
    "pad": ({"pad": (1, 1), "value": 0.5}, []),
    "pixel_shuffle": ({"upscale_factor": 2}, []),
    "pixel_unshuffle": ({"downscale_factor": 2}, []),
    "channel_shuffle": ({"groups": 2}, []),
    "im2col": ({"kernel_size": 3}, []),
    "interpolate": ({"scale_factor": 2.0, "mode": "bicubic", "align_corners": False}, []),
    "tril": ({}, []),
    "triu": ({}, []),
    "index_select": ({"dim": 1}, [torch.tensor([2, 0])]),
    "gather": ({"dim": 1}, [torch.zeros(1, 2, 8, 8, dtype=torch.int64)]),
    "to": ({"dtype": torch.float64}, []),
    "type_as": ({}, [(1,)]),
}
BY_HAND = {"cat", "stack", "chunk", "split", "tensor_split", "unbind", "where", "col2im", "einsum"}
"""Operations on or to lists, checked below."""


def affine_names():
    skipped = {"size", "shape", "device", *KINDS["creation"]}
    return sorted(
        name for name, operation in OPERATIONS.items() if name not in skipped and operation.law.__name__ != "nonlinear"
    )


def operands_of(name, generator):
    result = []
    for entry in SAMPLES[name][1]:
        if isinstance(entry, tuple):
            result.append(torch.rand(entry, generator=generator, dtype=torch.float64) + 0.5)
        else:
            result.append(entry)
    return result


def first_shape(name):
    if name[-2:] in ("1d", "3d"):
        return (4, 8) if name.endswith("1d") else (4, 6, 6, 6)
    return IMAGE


def test_every_operation_that_can_be_affine_has_a_sample():
    assert set(affine_names()) == set(SAMPLES) | BY_HAND


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_what_the_law_calls_affine_superposes(name):
    operation = OPERATIONS[name]
    generator = torch.Generator().manual_seed(0)
    attributes = {**{k: v for k, v in operation.attributes.items() if v is not ...}, **SAMPLES[name][0]}
    others = operands_of(name, generator)
    x, y = torch.randn((2, 1, *first_shape(name)), generator=generator, dtype=torch.float64)
    known = {"exponent": 1} if name == "pow" else {}
    assert operation.law({**attributes, **known}, [True] + [False] * (len(operation.operands) - 1)) is None

    def f(image):
        return operation.function(image, *others, **attributes)

    zero = f(torch.zeros_like(x))
    left = f(0.7 * x - 1.3 * y) - zero
    right = 0.7 * (f(x) - zero) - 1.3 * (f(y) - zero)
    torch.testing.assert_close(left, right)


def test_operations_on_lists_superpose():
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for name, attributes in {
        "chunk": {"chunks": 2},
        "split": {"split_size_or_sections": 2},
        "unbind": {"dim": 1},
    }.items():
        parts = OPERATIONS[name].function(x * 3, **attributes)
        again = [part * 3 for part in OPERATIONS[name].function(x, **attributes)]
        assert all(torch.allclose(a, b) for a, b in zip(parts, again, strict=True))
    assert OPERATIONS["einsum"].law({}, [True, True]) == "product of data-dependent values"
    assert OPERATIONS["cat"].law({}, [True, True]) is None


REFUSALS = [
    ("mul", {}, [True, True]),
    ("matmul", {}, [True, True]),
    ("div", {}, [False, True]),
    ("div", {}, [True, True]),
    ("pow", {"exponent": 2}, [True, False]),
    ("batch_norm", {"training": True}, [True, False, False, False, False]),
    ("batch_norm", {"training": False}, [True, False, False, True, False]),
    ("instance_norm", {"use_input_stats": True}, [True, False, False, False, False]),
    ("dropout", {"training": True}, [True]),
    ("to", {"dtype": torch.int64}, [True]),
    ("where", {}, [True, True, False]),
    ("gather", {}, [True, True]),
    ("masked_fill", {}, [True, True]),
    ("conv2d", {}, [True, True, False]),
    ("relu", {}, [True]),
    ("max_pool2d", {}, [True]),
    ("softmax", {}, [True]),
    ("layer_norm", {}, [True, False, False]),
    ("abs", {}, [True]),
]


@pytest.mark.parametrize(
    ("name", "attributes", "dependent"), REFUSALS, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(REFUSALS)]
)
def test_the_law_refuses_with_a_reason(name, attributes, dependent):
    assert OPERATIONS[name].law(attributes, dependent)


def test_a_data_dependent_bias_is_a_sum():
    assert OPERATIONS["conv2d"].law({}, [True, False, True]) is None


def test_an_operation_without_a_law_cannot_be_defined():
    with pytest.raises(TypeError, match="law"):
        define("mystery", torch.special.i0, "input", "elementwise")


def test_every_spelling_in_a_table_can_be_reached():
    for table in (ALIASES, READERS, ATEN_READERS):
        assert [name for name in table if _without_mark(name) != name] == []


def test_words_and_kinds_do_not_collide():
    assert not set(OPERATIONS) & set(KINDS)
    assert all(set(names) <= set(OPERATIONS) for names in KINDS.values())


def test_every_alias_leads_to_a_word():
    assert all(target in OPERATIONS or target in READERS for target in ALIASES.values())


def test_activations_run_under_their_own_name():
    x = torch.randn(2, 4, 8, 8)
    for name in KINDS["activation"]:
        operation = OPERATIONS[name]
        attributes = {key: 0.5 if value is ... else value for key, value in operation.attributes.items()}
        if name == "clamp":
            attributes = {"min": -1.0, "max": None}
        weight = [torch.full((1,), 0.25)] if name == "prelu" else []
        assert operation.function(x, *weight, **attributes).shape == x.shape


class Many(torch.nn.Module):
    """Spellings that need a reader, one after the other."""

    def forward(self, x):
        n = x.size(0)
        x = torch.add(x, 1, alpha=2) - torch.rsub(x, 1)
        x = x.permute(0, 2, 3, 1).reshape(n, 64, 4).transpose(1, 2).view(n, 4, 8, 8)
        x = torch.addcmul(x, x.new_ones(8), x.new_full((8,), 2.0), value=0.5)
        x = torch.cat([x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8), x], dim=1)
        a, b = x.chunk(2, dim=1)
        x = torch.stack([a, b]).sum(0).movedim(1, -1)
        x = torch.einsum("nhwc,hwc->nhw", x, x[0]).float()
        x = x.var(dim=-1, unbiased=False).clamp_min(0.1) ** 0.5
        return torch.maximum(x, x.max(dim=-1, keepdim=True).values * 0.1).flip(-1).t()


def test_unusual_spellings_compute_the_same():
    graph = trace(Many(), torch.zeros(1, 4, 8, 8))
    x = torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(graph(x), Many()(x))
    assert all(operation_name(node) in OPERATIONS for node in graph.graph.nodes if node.op == "call_function")


def test_scaled_dot_product_attention_with_uniform_scores_averages():
    v = torch.randn(1, 2, 5, 3)
    q = torch.zeros(1, 2, 5, 3)
    mixed = OPERATIONS["scaled_dot_product_attention"].function(q, q, v)
    torch.testing.assert_close(mixed, v.mean(-2, keepdim=True).expand_as(v))
    assert math.isclose(F.softmax(torch.zeros(5), 0)[0].item(), 0.2, rel_tol=1e-6)

"""The one vocabulary of operations that rules, views, certificates and comparisons use.

An operation has a name, kinds, operands (tensors, positional), attributes (everything else, by keyword, with torch's
own names and defaults), the function that carries it out, and the law that says when it is affine. `nn.ReLU`, `F.relu`,
`torch.relu`, `Tensor.relu_` and `aten.relu` are all the operation `relu`; `surgery.graph.spelling` finds it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F

from surgery.graph import functions, laws
from surgery.graph.operation import REQUIRED, Operation, define


def _convolutions() -> list[Operation]:
    forward: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    transposed: dict[str, Any] = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    operands = "input weight bias?"
    table = [(f"conv{n}d", forward) for n in (1, 2, 3)] + [(f"conv_transpose{n}d", transposed) for n in (1, 2, 3)]
    return [
        define(name, getattr(F, name), operands, "convolution", laws.product_and_bias, **attributes)
        for name, attributes in table
    ]


def _pools() -> list[Operation]:
    result: list[Operation] = []
    for n in (1, 2, 3):
        window = {"kernel_size": REQUIRED, "stride": None, "padding": 0}
        average = {**window, "ceil_mode": False, "count_include_pad": True}
        if n > 1:
            average["divisor_override"] = None
        result += [
            define(
                f"max_pool{n}d",
                getattr(F, f"max_pool{n}d"),
                "input",
                "pooling max_pooling",
                laws.nonlinear,
                **window,
                dilation=1,
                ceil_mode=False,
            ),
            define(
                f"avg_pool{n}d",
                getattr(F, f"avg_pool{n}d"),
                "input",
                "pooling average_pooling",
                laws.affine,
                **average,
            ),
            define(
                f"adaptive_max_pool{n}d",
                getattr(F, f"adaptive_max_pool{n}d"),
                "input",
                "pooling max_pooling adaptive_pooling",
                laws.nonlinear,
                output_size=REQUIRED,
            ),
            define(
                f"adaptive_avg_pool{n}d",
                getattr(F, f"adaptive_avg_pool{n}d"),
                "input",
                "pooling average_pooling adaptive_pooling",
                laws.affine,
                output_size=REQUIRED,
            ),
        ]
    result += [
        define(
            f"lp_pool{n}d",
            getattr(F, f"lp_pool{n}d"),
            "input",
            "pooling",
            laws.nonlinear,
            norm_type=REQUIRED,
            kernel_size=REQUIRED,
            stride=None,
            ceil_mode=False,
        )
        for n in (1, 2)
    ]
    return result


def _activations() -> list[Operation]:
    def activation(name: str, operands: str = "input", kinds: str = "", **attributes: Any) -> Operation:
        function = getattr(F, name, None) or getattr(torch, name)
        return define(name, function, operands, f"activation {kinds}", laws.nonlinear, **attributes)

    # ReLU is linear in every region, and still not affine: the region depends on the input.
    return [
        *[
            activation(name)
            for name in ("relu", "relu6", "selu", "silu", "mish", "hardswish", "logsigmoid", "softsign")
        ],
        activation("tanhshrink"),
        *[activation(name, kinds="gate") for name in ("sigmoid", "hardsigmoid", "tanh")],
        activation("gelu", approximate="none"),
        activation("leaky_relu", negative_slope=0.01),
        activation("elu", alpha=1.0),
        activation("celu", alpha=1.0),
        activation("rrelu", lower=1.0 / 8, upper=1.0 / 3, training=False),
        activation("prelu", "input weight"),
        activation("softplus", beta=1.0, threshold=20.0),
        activation("hardtanh", min_val=-1.0, max_val=1.0),
        activation("threshold", threshold=REQUIRED, value=REQUIRED),
        activation("hardshrink", lambd=0.5),
        activation("softshrink", lambd=0.5),
        activation("clamp", min=None, max=None),
        define("glu", F.glu, "input", "gated_activation", laws.nonlinear, dim=-1),
        define("softmax", F.softmax, "input", "normalized_weights gate", laws.nonlinear, dim=REQUIRED, dtype=None),
        define("log_softmax", F.log_softmax, "input", "normalized_weights", laws.nonlinear, dim=REQUIRED, dtype=None),
        define("softmin", F.softmin, "input", "normalized_weights", laws.nonlinear, dim=REQUIRED, dtype=None),
    ]


def _normalizations() -> list[Operation]:
    statistics = "input running_mean? running_var? weight? bias?"
    return [
        define(
            "batch_norm",
            F.batch_norm,
            statistics,
            "normalization",
            laws.batch_norm,
            training=False,
            momentum=0.1,
            eps=1e-5,
        ),
        define(
            "instance_norm",
            F.instance_norm,
            statistics,
            "normalization",
            laws.instance_norm,
            use_input_stats=True,
            momentum=0.1,
            eps=1e-5,
        ),
        define(
            "layer_norm",
            functions.layer_norm,
            "input weight? bias?",
            "normalization",
            laws.nonlinear,
            normalized_shape=REQUIRED,
            eps=1e-5,
        ),
        define(
            "rms_norm",
            functions.rms_norm,
            "input weight?",
            "normalization",
            laws.nonlinear,
            normalized_shape=REQUIRED,
            eps=None,
        ),
        define(
            "group_norm",
            functions.group_norm,
            "input weight? bias?",
            "normalization",
            laws.nonlinear,
            num_groups=REQUIRED,
            eps=1e-5,
        ),
        define(
            "local_response_norm",
            F.local_response_norm,
            "input",
            "normalization",
            laws.nonlinear,
            size=REQUIRED,
            alpha=1e-4,
            beta=0.75,
            k=1.0,
        ),
        define("normalize", F.normalize, "input", "normalization", laws.nonlinear, p=2.0, dim=1, eps=1e-12),
    ]


# Views, because dropout returns its input itself outside training.
_DROPOUTS = [
    define(name, getattr(F, name), "input", "stochastic", laws.dropout, view=True, p=0.5, training=REQUIRED)
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
]


def _products() -> list[Operation]:
    return [
        define("linear", F.linear, "input weight bias?", "matrix_product", laws.product_and_bias),
        define("bilinear", F.bilinear, "input1 input2 weight bias?", "matrix_product", laws.product),
        define("matmul", torch.matmul, "input other", "matrix_product", laws.product),
        # A permutation of one tensor, as in "ij->ji", shares its memory, so all forms count as views.
        define("einsum", functions.einsum, "operands", "matrix_product", laws.product, view=True, equation=REQUIRED),
        define(
            "scaled_dot_product_attention",
            F.scaled_dot_product_attention,
            "query key value attn_mask?",
            "attention",
            laws.nonlinear,
            dropout_p=0.0,
            is_causal=False,
            scale=None,
            enable_gqa=False,
        ),
        # Linear in the weight, but its input holds indices: a lookup by values of the input is a step function.
        define("embedding", F.embedding, "input weight", "indexing", laws.nonlinear, padding_idx=None),
    ]


def _arithmetic() -> list[Operation]:
    def binary(name: str, function: Callable[..., Any], law: laws.Law, *, commutes: bool = False) -> Operation:
        return define(name, function, "input other", "arithmetic", law, commutes=commutes)

    comparisons = [
        binary(name, getattr(operator, name), laws.nonlinear)
        for name in ("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_")
    ]
    return [
        binary("add", operator.add, laws.affine, commutes=True),
        binary("sub", operator.sub, laws.affine),
        binary("mul", operator.mul, laws.product, commutes=True),
        binary("div", operator.truediv, laws.quotient),
        # Rounding makes these step functions, although they look like a quotient and a difference.
        binary("floor_divide", operator.floordiv, laws.nonlinear),
        binary("remainder", operator.mod, laws.nonlinear),
        binary("maximum", torch.maximum, laws.nonlinear, commutes=True),
        binary("minimum", torch.minimum, laws.nonlinear, commutes=True),
        define("pow", operator.pow, "input exponent", "arithmetic", laws.power),
        define("neg", operator.neg, "input", "arithmetic", laws.affine),
        *comparisons,
        *[define(name, getattr(torch, name), "input", "elementwise", laws.nonlinear) for name in _UNARY],
        define("invert", operator.invert, "input", "elementwise", laws.nonlinear),
        define("logical_not", torch.logical_not, "input", "elementwise", laws.nonlinear),
        define("where", torch.where, "condition input other", "elementwise", laws.choice),
        define("masked_fill", torch.masked_fill, "input mask", "elementwise", laws.fill, value=REQUIRED),
    ]


_UNARY = (
    *("abs", "sign", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal", "square"),
    *("sin", "cos", "floor", "ceil", "round", "erf", "isnan"),
)


def _reductions() -> list[Operation]:
    linear = {"mean": torch.mean, "sum": torch.sum}
    other = {"amax": torch.amax, "amin": torch.amin, "logsumexp": torch.logsumexp, "prod": torch.prod}
    return [
        *[
            define(name, f, "input", "reduction", laws.affine, dim=None, keepdim=False, dtype=None)
            for name, f in linear.items()
        ],
        *[define(name, f, "input", "reduction", laws.nonlinear, dim=(), keepdim=False) for name, f in other.items()],
        *[
            define(name, f, "input", "reduction", laws.nonlinear, dim=None, keepdim=False, correction=1)
            for name, f in {"var": torch.var, "std": torch.std}.items()
        ],
        define("norm", torch.norm, "input", "reduction", laws.nonlinear, p="fro", dim=None, keepdim=False),
        define(
            "vector_norm",
            torch.linalg.vector_norm,
            "input",
            "reduction",
            laws.nonlinear,
            ord=2,
            dim=None,
            keepdim=False,
        ),
        define("max", torch.max, "input", "reduction", laws.nonlinear),
        define("min", torch.min, "input", "reduction", laws.nonlinear),
        define("max_dim", torch.max, "input", "reduction", laws.nonlinear, dim=REQUIRED, keepdim=False),
        define("min_dim", torch.min, "input", "reduction", laws.nonlinear, dim=REQUIRED, keepdim=False),
        define("argmax", torch.argmax, "input", "reduction", laws.nonlinear, dim=None, keepdim=False),
        define("topk", torch.topk, "input", "reduction", laws.nonlinear, k=REQUIRED, dim=-1),
        # A product with a fixed triangular matrix of ones.
        define("cumsum", torch.cumsum, "input", "reduction", laws.affine, dim=REQUIRED, dtype=None),
    ]


def _structure() -> list[Operation]:
    def view(name: str, function: Callable[..., Any], operands: str = "input", **attributes: Any) -> Operation:
        return define(name, function, operands, "reshaping", laws.affine, view=True, **attributes)

    def move(name: str, function: Callable[..., Any], operands: str = "input", **attributes: Any) -> Operation:
        return define(name, function, operands, "reshaping", laws.affine, **attributes)

    return [
        view("reshape", torch.reshape, shape=REQUIRED),
        view("flatten", torch.flatten, start_dim=0, end_dim=-1),
        view("unflatten", torch.unflatten, dim=REQUIRED, sizes=REQUIRED),
        view("permute", torch.permute, dims=REQUIRED),
        view("transpose", torch.transpose, dim0=REQUIRED, dim1=REQUIRED),
        view("squeeze", functions.squeeze, dim=None),
        view("unsqueeze", torch.unsqueeze, dim=REQUIRED),
        view("expand", torch.Tensor.expand, size=REQUIRED),
        # Returns its input itself where the layout fits, so it may be a view.
        view("contiguous", torch.Tensor.contiguous, memory_format=torch.contiguous_format),
        view("narrow", torch.narrow, dim=REQUIRED, start=REQUIRED, length=REQUIRED),
        view("select", torch.select, dim=REQUIRED, index=REQUIRED),
        view("slice", functions.slice, dim=0, start=None, end=None, step=1),
        view("unfold", torch.Tensor.unfold, dimension=REQUIRED, size=REQUIRED, step=REQUIRED),
        view("diagonal", torch.diagonal, offset=0, dim1=0, dim2=1),
        define("getitem", functions.getitem, "input", "indexing", laws.affine, view=True, index=REQUIRED),
        # Only the shape of the second operand is read, so its values may depend on the input.
        define("expand_as", torch.Tensor.expand_as, "input other", "reshaping", laws.affine, reads=1, view=True),
        define("view_as", torch.Tensor.view_as, "input other", "reshaping", laws.affine, reads=1, view=True),
        move("clone", torch.clone, memory_format=torch.preserve_format),
        move("cat", torch.cat, "tensors", dim=0),
        move("stack", torch.stack, "tensors", dim=0),
        move("roll", torch.roll, shifts=REQUIRED, dims=None),
        move("flip", torch.flip, dims=REQUIRED),
        move("repeat", torch.Tensor.repeat, repeats=REQUIRED),
        move("tile", torch.tile, dims=REQUIRED),
        move("repeat_interleave", torch.repeat_interleave, repeats=REQUIRED, dim=None),
        # All modes copy entries or insert constants, hence affine and not linear.
        move("pad", F.pad, pad=REQUIRED, mode="constant", value=None),
        move("pixel_shuffle", F.pixel_shuffle, upscale_factor=REQUIRED),
        move("pixel_unshuffle", F.pixel_unshuffle, downscale_factor=REQUIRED),
        move("channel_shuffle", F.channel_shuffle, groups=REQUIRED),
        move("im2col", F.unfold, kernel_size=REQUIRED, dilation=1, padding=0, stride=1),
        move("col2im", F.fold, output_size=REQUIRED, kernel_size=REQUIRED, dilation=1, padding=0, stride=1),
        # Every mode is a weighted sum of pixels with weights that depend on positions only.
        move(
            "interpolate",
            functions.interpolate,
            size=None,
            scale_factor=None,
            mode="nearest",
            align_corners=None,
            antialias=False,
        ),
        view("chunk", torch.chunk, chunks=REQUIRED, dim=0),
        view("split", torch.split, split_size_or_sections=REQUIRED, dim=0),
        view("tensor_split", functions.tensor_split, indices_or_sections=REQUIRED, dim=0),
        view("unbind", torch.unbind, dim=0),
        move("tril", torch.tril, diagonal=0),
        move("triu", torch.triu, diagonal=0),
        define("index_select", functions.index_select, "input index", "indexing", laws.selection, dim=REQUIRED),
        define("gather", functions.gather, "input index", "indexing", laws.selection, dim=REQUIRED),
        define("to", functions.to, "input", "conversion", laws.cast, view=True, dtype=None, device=None),
        define("type_as", torch.Tensor.type_as, "input other", "conversion", laws.affine, reads=1, view=True),
    ]


def _shapes_and_constants() -> list[Operation]:
    # Reading no operand makes a result constant: sizes and fills do not depend on the values of the input.
    def shape(name: str, function: Callable[..., Any], kinds: str = "shape_query", **attributes: Any) -> Operation:
        return define(name, function, "input", kinds, laws.affine, reads=0, **attributes)

    like = {"dtype": None, "device": None}
    return [
        shape("size", torch.Tensor.size, dim=REQUIRED),
        shape("shape", torch.Tensor.size),
        shape("device", functions.device),
        shape("zeros_like", torch.zeros_like, "creation", **like),
        shape("ones_like", torch.ones_like, "creation", **like),
        shape("full_like", torch.full_like, "creation", fill_value=REQUIRED, **like),
        define(
            "arange",
            functions.arange,
            "",
            "creation",
            laws.affine,
            start=0,
            end=REQUIRED,
            step=1,
            dtype=None,
            device=None,
        ),
        define("zeros", torch.zeros, "", "creation", laws.affine, size=REQUIRED, dtype=None, device=None),
        define("ones", torch.ones, "", "creation", laws.affine, size=REQUIRED, dtype=None, device=None),
        define(
            "full", torch.full, "", "creation", laws.affine, size=REQUIRED, fill_value=REQUIRED, dtype=None, device=None
        ),
    ]


_GROUPS = (
    _convolutions(),
    _pools(),
    _activations(),
    _normalizations(),
    _DROPOUTS,
    _products(),
    _arithmetic(),
    _reductions(),
    _structure(),
    _shapes_and_constants(),
)
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {operation.name: operation for group in _GROUPS for operation in group}
)
"""Every operation by name."""

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        kind: tuple(operation.name for operation in OPERATIONS.values() if kind in operation.kinds)
        for kind in sorted({kind for operation in OPERATIONS.values() for kind in operation.kinds})
    }
)
"""Every kind with the names of its operations."""

"""The one vocabulary of operations that rules, views, certificates and comparisons speak.

An operation has a name, kinds, operands (tensors, positional), attributes (everything else, by keyword, with torch's
own names and defaults), the function that carries it out, and the law that says when it is affine. `nn.ReLU`, `F.relu`,
`torch.relu`, `Tensor.relu_` and `aten.relu` are all the operation `relu`; `surgery.graph.spelling` finds it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F

from surgery.graph import laws

REQUIRED: Any = ...
"""Marks an attribute without a default."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One word of the vocabulary.

    `operands` are the names of the tensor arguments, the last `optional` of them may be absent. `reads` counts the
    leading operands whose values matter; of the others only the shape does (`expand_as(input, other)` reads one, `size`
    none). `commutes` says that the two operands may change places.
    """

    name: str
    function: Callable[..., Any]
    operands: tuple[str, ...]
    optional: int
    attributes: Mapping[str, Any]
    kinds: tuple[str, ...]
    law: laws.Law
    reads: int
    view: bool
    commutes: bool

    @property
    def required_operands(self) -> int:
        return len(self.operands) - self.optional

    @property
    def rank(self) -> int | None:
        """The number of spatial dimensions that the name ends with: 2 for `conv2d`, None for `relu`."""
        return int(self.name[-2]) if self.name[-2:] in ("1d", "2d", "3d") else None


def _operation(
    name: str,
    function: Callable[..., Any],
    operands: str = "input",
    kinds: str = "",
    law: laws.Law = laws.jointly_linear,
    *,
    reads: int | None = None,
    view: bool = False,
    commutes: bool = False,
    **attributes: Any,
) -> Operation:
    names = operands.split()
    return Operation(
        name=name,
        function=function,
        operands=tuple(item.rstrip("?") for item in names),
        optional=sum(item.endswith("?") for item in names),
        attributes=MappingProxyType(attributes),
        kinds=tuple(kinds.split()),
        law=law,
        reads=len(names) if reads is None else reads,
        view=view,
        commutes=commutes,
    )


def _convolutions() -> list[Operation]:
    forward: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    transposed: dict[str, Any] = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    operands = "input weight bias?"
    table = [(f"conv{n}d", forward) for n in (1, 2, 3)] + [(f"conv_transpose{n}d", transposed) for n in (1, 2, 3)]
    return [
        _operation(name, getattr(F, name), operands, "convolution", laws.product_and_bias, **attributes)
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
            _operation(
                f"max_pool{n}d",
                getattr(F, f"max_pool{n}d"),
                "input",
                "pooling max_pooling",
                laws.nonlinear,
                **window,
                dilation=1,
                ceil_mode=False,
            ),
            _operation(f"avg_pool{n}d", getattr(F, f"avg_pool{n}d"), "input", "pooling average_pooling", **average),
            _operation(
                f"adaptive_max_pool{n}d",
                getattr(F, f"adaptive_max_pool{n}d"),
                "input",
                "pooling max_pooling adaptive_pooling",
                laws.nonlinear,
                output_size=REQUIRED,
            ),
            _operation(
                f"adaptive_avg_pool{n}d",
                getattr(F, f"adaptive_avg_pool{n}d"),
                "input",
                "pooling average_pooling adaptive_pooling",
                output_size=REQUIRED,
            ),
        ]
    result += [
        _operation(
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
        return _operation(name, function, operands, f"activation {kinds}", laws.nonlinear, **attributes)

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
        _operation("glu", F.glu, "input", "gated_activation", laws.nonlinear, dim=-1),
        _operation("softmax", F.softmax, "input", "normalized_weights gate", laws.nonlinear, dim=REQUIRED, dtype=None),
        _operation(
            "log_softmax", F.log_softmax, "input", "normalized_weights", laws.nonlinear, dim=REQUIRED, dtype=None
        ),
        _operation("softmin", F.softmin, "input", "normalized_weights", laws.nonlinear, dim=REQUIRED, dtype=None),
    ]


def _normalizations() -> list[Operation]:
    statistics = "input running_mean? running_var? weight? bias?"
    return [
        _operation(
            "batch_norm",
            F.batch_norm,
            statistics,
            "normalization",
            laws.batch_norm,
            training=False,
            momentum=0.1,
            eps=1e-5,
        ),
        _operation(
            "instance_norm",
            F.instance_norm,
            statistics,
            "normalization",
            laws.instance_norm,
            use_input_stats=True,
            momentum=0.1,
            eps=1e-5,
        ),
        _operation(
            "layer_norm",
            _layer_norm,
            "input weight? bias?",
            "normalization",
            laws.nonlinear,
            normalized_shape=REQUIRED,
            eps=1e-5,
        ),
        _operation(
            "rms_norm",
            _rms_norm,
            "input weight?",
            "normalization",
            laws.nonlinear,
            normalized_shape=REQUIRED,
            eps=None,
        ),
        _operation(
            "group_norm",
            _group_norm,
            "input weight? bias?",
            "normalization",
            laws.nonlinear,
            num_groups=REQUIRED,
            eps=1e-5,
        ),
        _operation(
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
        _operation("normalize", F.normalize, "input", "normalization", laws.nonlinear, p=2.0, dim=1, eps=1e-12),
    ]


def _layer_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    normalized_shape: Any,
    eps: float,
) -> torch.Tensor:
    """`F.layer_norm` with the operands first, as every operation has them; so below."""
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def _rms_norm(
    input: torch.Tensor, weight: torch.Tensor | None = None, *, normalized_shape: Any, eps: float | None
) -> torch.Tensor:
    return F.rms_norm(input, normalized_shape, weight, eps)


def _group_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    num_groups: int,
    eps: float,
) -> torch.Tensor:
    return F.group_norm(input, num_groups, weight, bias, eps)


def _dropouts() -> list[Operation]:
    names = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
    return [
        _operation(name, getattr(F, name), "input", "stochastic", laws.dropout, p=0.5, training=REQUIRED)
        for name in names
    ]


def _products() -> list[Operation]:
    return [
        _operation("linear", F.linear, "input weight bias?", "matrix_product", laws.product_and_bias),
        _operation("bilinear", F.bilinear, "input1 input2 weight bias?", "matrix_product", laws.product),
        _operation("matmul", torch.matmul, "input other", "matrix_product", laws.product),
        _operation("einsum", _einsum, "operands", "matrix_product", laws.product, equation=REQUIRED),
        _operation(
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
        _operation("embedding", F.embedding, "input weight", "indexing", laws.nonlinear, padding_idx=None),
    ]


def _einsum(operands: list[torch.Tensor], *, equation: str) -> torch.Tensor:
    """`torch.einsum` with the operands first, as every operation has them."""
    return torch.einsum(equation, *operands)


def _arithmetic() -> list[Operation]:
    def binary(
        name: str, function: Callable[..., Any], law: laws.Law = laws.jointly_linear, *, commutes: bool = False
    ) -> Operation:
        return _operation(name, function, "input other", "arithmetic", law, commutes=commutes)

    comparisons = [
        binary(name, getattr(operator, name), laws.nonlinear)
        for name in ("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_")
    ]
    return [
        binary("add", operator.add, commutes=True),
        binary("sub", operator.sub),
        binary("mul", operator.mul, laws.product, commutes=True),
        binary("div", operator.truediv, laws.quotient),
        binary("floor_divide", operator.floordiv, laws.nonlinear),
        binary("remainder", operator.mod, laws.nonlinear),
        binary("maximum", torch.maximum, laws.nonlinear, commutes=True),
        binary("minimum", torch.minimum, laws.nonlinear, commutes=True),
        _operation("pow", operator.pow, "input exponent", "arithmetic", laws.power),
        _operation("neg", operator.neg, "input", "arithmetic"),
        *comparisons,
        *[_operation(name, getattr(torch, name), "input", "elementwise", laws.nonlinear) for name in _UNARY],
        _operation("invert", operator.invert, "input", "elementwise", laws.nonlinear),
        _operation("logical_not", torch.logical_not, "input", "elementwise", laws.nonlinear),
        _operation("where", torch.where, "condition input other", "elementwise", laws.choice),
        _operation("masked_fill", torch.masked_fill, "input mask", "elementwise", laws.fill, value=REQUIRED),
    ]


_UNARY = (
    *("abs", "sign", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal", "square"),
    *("sin", "cos", "floor", "ceil", "round", "erf", "isnan"),
)


def _reductions() -> list[Operation]:
    linear = {"mean": torch.mean, "sum": torch.sum}
    other = {"amax": torch.amax, "amin": torch.amin, "logsumexp": torch.logsumexp, "prod": torch.prod}
    return [
        *[_operation(name, f, "input", "reduction", dim=None, keepdim=False, dtype=None) for name, f in linear.items()],
        *[
            _operation(name, f, "input", "reduction", laws.nonlinear, dim=(), keepdim=False)
            for name, f in other.items()
        ],
        *[
            _operation(name, f, "input", "reduction", laws.nonlinear, dim=None, keepdim=False, correction=1)
            for name, f in {"var": torch.var, "std": torch.std}.items()
        ],
        _operation("norm", torch.norm, "input", "reduction", laws.nonlinear, p="fro", dim=None, keepdim=False),
        _operation(
            "vector_norm",
            torch.linalg.vector_norm,
            "input",
            "reduction",
            laws.nonlinear,
            ord=2,
            dim=None,
            keepdim=False,
        ),
        _operation("max", torch.max, "input", "reduction", laws.nonlinear),
        _operation("min", torch.min, "input", "reduction", laws.nonlinear),
        _operation("max_dim", torch.max, "input", "reduction", laws.nonlinear, dim=REQUIRED, keepdim=False),
        _operation("min_dim", torch.min, "input", "reduction", laws.nonlinear, dim=REQUIRED, keepdim=False),
        _operation("argmax", torch.argmax, "input", "reduction", laws.nonlinear, dim=None, keepdim=False),
        _operation("topk", torch.topk, "input", "reduction", laws.nonlinear, k=REQUIRED, dim=-1),
        _operation("cumsum", torch.cumsum, "input", "reduction", dim=REQUIRED, dtype=None),
    ]


def _structure() -> list[Operation]:
    def view(name: str, function: Callable[..., Any], operands: str = "input", **attributes: Any) -> Operation:
        return _operation(name, function, operands, "reshaping", view=True, **attributes)

    def move(name: str, function: Callable[..., Any], operands: str = "input", **attributes: Any) -> Operation:
        return _operation(name, function, operands, "reshaping", **attributes)

    return [
        view("reshape", torch.reshape, shape=REQUIRED),
        view("flatten", torch.flatten, start_dim=0, end_dim=-1),
        view("unflatten", torch.unflatten, dim=REQUIRED, sizes=REQUIRED),
        view("permute", torch.permute, dims=REQUIRED),
        view("transpose", torch.transpose, dim0=REQUIRED, dim1=REQUIRED),
        view("squeeze", _squeeze, dim=None),
        view("unsqueeze", torch.unsqueeze, dim=REQUIRED),
        view("expand", torch.Tensor.expand, size=REQUIRED),
        view("contiguous", torch.Tensor.contiguous, memory_format=torch.contiguous_format),
        view("narrow", torch.narrow, dim=REQUIRED, start=REQUIRED, length=REQUIRED),
        view("select", torch.select, dim=REQUIRED, index=REQUIRED),
        view("slice", _slice, dim=0, start=None, end=None, step=1),
        view("unfold", torch.Tensor.unfold, dimension=REQUIRED, size=REQUIRED, step=REQUIRED),
        view("diagonal", torch.diagonal, offset=0, dim1=0, dim2=1),
        _operation("getitem", _getitem, "input", "indexing", view=True, index=REQUIRED),
        _operation("expand_as", torch.Tensor.expand_as, "input other", "reshaping", reads=1, view=True),
        _operation("view_as", torch.Tensor.view_as, "input other", "reshaping", reads=1, view=True),
        move("clone", torch.clone, memory_format=torch.preserve_format),
        move("cat", torch.cat, "tensors", dim=0),
        move("stack", torch.stack, "tensors", dim=0),
        move("roll", torch.roll, shifts=REQUIRED, dims=None),
        move("flip", torch.flip, dims=REQUIRED),
        move("repeat", torch.Tensor.repeat, repeats=REQUIRED),
        move("tile", torch.tile, dims=REQUIRED),
        move("repeat_interleave", torch.repeat_interleave, repeats=REQUIRED, dim=None),
        move("pad", F.pad, pad=REQUIRED, mode="constant", value=None),
        move("pixel_shuffle", F.pixel_shuffle, upscale_factor=REQUIRED),
        move("pixel_unshuffle", F.pixel_unshuffle, downscale_factor=REQUIRED),
        move("channel_shuffle", F.channel_shuffle, groups=REQUIRED),
        move("im2col", F.unfold, kernel_size=REQUIRED, dilation=1, padding=0, stride=1),
        move("col2im", F.fold, output_size=REQUIRED, kernel_size=REQUIRED, dilation=1, padding=0, stride=1),
        move(
            "interpolate",
            _interpolate,
            size=None,
            scale_factor=None,
            mode="nearest",
            align_corners=None,
            antialias=False,
        ),
        move("chunk", torch.chunk, chunks=REQUIRED, dim=0),
        move("split", torch.split, split_size_or_sections=REQUIRED, dim=0),
        move("tensor_split", torch.tensor_split, indices_or_sections=REQUIRED, dim=0),
        move("unbind", torch.unbind, dim=0),
        move("tril", torch.tril, diagonal=0),
        move("triu", torch.triu, diagonal=0),
        _operation("index_select", _index_select, "input index", "indexing", laws.selection, dim=REQUIRED),
        _operation("gather", _gather, "input index", "indexing", laws.selection, dim=REQUIRED),
        _operation("to", _to, "input", "conversion", laws.cast, dtype=None, device=None),
        _operation("type_as", torch.Tensor.type_as, "input other", "conversion", reads=1),
    ]


def _getitem(input: Any, *, index: Any) -> Any:
    return input[index]


def _squeeze(input: torch.Tensor, *, dim: Any = None) -> torch.Tensor:
    return torch.squeeze(input) if dim is None else torch.squeeze(input, dim)


def _slice(input: torch.Tensor, *, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> torch.Tensor:
    return torch.ops.aten.slice.Tensor(input, dim, start, end, step)


def _index_select(input: torch.Tensor, index: torch.Tensor, *, dim: int) -> torch.Tensor:
    return torch.index_select(input, dim, index)


def _gather(input: torch.Tensor, index: torch.Tensor, *, dim: int) -> torch.Tensor:
    return torch.gather(input, dim, index)


def _to(input: torch.Tensor, *, dtype: Any = None, device: Any = None) -> torch.Tensor:
    return input.to(dtype=dtype, device=device)


def _interpolate(input: torch.Tensor, **attributes: Any) -> torch.Tensor:
    size = attributes.pop("size")
    return F.interpolate(input, size=list(size) if isinstance(size, tuple) else size, **attributes)


def _shapes_and_constants() -> list[Operation]:
    def shape(name: str, function: Callable[..., Any], kinds: str = "shape_query", **attributes: Any) -> Operation:
        return _operation(name, function, "input", kinds, reads=0, **attributes)

    like = {"dtype": None, "device": None}
    return [
        shape("size", torch.Tensor.size, dim=REQUIRED),
        shape("shape", torch.Tensor.size),
        shape("device", _device),
        shape("zeros_like", torch.zeros_like, "creation", **like),
        shape("ones_like", torch.ones_like, "creation", **like),
        shape("full_like", torch.full_like, "creation", fill_value=REQUIRED, **like),
        _operation("arange", _arange, "", "creation", start=0, end=REQUIRED, step=1, dtype=None, device=None),
        _operation("zeros", torch.zeros, "", "creation", size=REQUIRED, dtype=None, device=None),
        _operation("ones", torch.ones, "", "creation", size=REQUIRED, dtype=None, device=None),
        _operation("full", torch.full, "", "creation", size=REQUIRED, fill_value=REQUIRED, dtype=None, device=None),
    ]


def _device(input: torch.Tensor) -> torch.device:
    return input.device


def _arange(*, start: Any, end: Any, step: Any, dtype: Any, device: Any) -> torch.Tensor:
    return torch.arange(start, end, step, dtype=dtype, device=device)


def _table(*groups: list[Operation]) -> Mapping[str, Operation]:
    return MappingProxyType({operation.name: operation for group in groups for operation in group})


OPERATIONS = _table(
    _convolutions(),
    _pools(),
    _activations(),
    _normalizations(),
    _dropouts(),
    _products(),
    _arithmetic(),
    _reductions(),
    _structure(),
    _shapes_and_constants(),
)
"""Every operation by name."""

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        kind: tuple(operation.name for operation in OPERATIONS.values() if kind in operation.kinds)
        for kind in sorted({kind for operation in OPERATIONS.values() for kind in operation.kinds})
    }
)
"""Every kind with the names of its operations."""

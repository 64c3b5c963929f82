"""Binding the arguments of a spelling to an operation: other names, other orders, integers given one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from surgery.graph.builder import Builder, UnsupportedError
from surgery.graph.vocabulary import OPERATIONS, Operation

ALIASES: Mapping[str, str] = {
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "__and__": "and_",
    "__or__": "or_",
    "absolute": "abs",
    "bitwise_and": "and_",
    "bitwise_or": "or_",
    "bitwise_not": "invert",
    "bmm": "matmul",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "floordiv": "floor_divide",
    "frobenius_norm": "norm",
    "greater": "gt",
    "greater_equal": "ge",
    "iadd": "add",
    "iand": "and_",
    "ifloordiv": "floor_divide",
    "imod": "remainder",
    "imul": "mul",
    "ior": "or_",
    "ipow": "pow",
    "isub": "sub",
    "itruediv": "div",
    "less": "lt",
    "less_equal": "le",
    "linalg_vector_norm": "vector_norm",
    "logical_and": "and_",
    "mm": "matmul",
    "mod": "remainder",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "reshape_as": "view_as",
    "split_with_sizes": "split",
    "subtract": "sub",
    "sym_size": "size",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "true_divide": "div",
    "truediv": "div",
    "upsample": "interpolate",
    "view": "reshape",
    "_unsafe_view": "reshape",
}
"""Other names of the same operation."""

ARGUMENTS: Mapping[str, str] = {
    "axis": "dim",
    "axis0": "dim0",
    "axis1": "dim1",
    "indices": "index",
    "keepdims": "keepdim",
    "mat2": "other",
    "self": "input",
    "split_size": "split_size_or_sections",
    "split_sizes": "split_size_or_sections",
    "tensor": "input",
    "train": "training",
}
"""Other names of the same argument."""

ORDERS: Mapping[str, str] = {
    "layer_norm": "input normalized_shape weight bias eps",
    "rms_norm": "input normalized_shape weight eps",
    "group_norm": "input num_groups weight bias eps",
    "interpolate": "input size scale_factor mode align_corners recompute_scale_factor antialias",
    "softmax": "input dim _stacklevel dtype",
    "log_softmax": "input dim _stacklevel dtype",
    "index_select": "input dim index",
    "gather": "input dim index",
    "masked_fill": "input mask value",
    "dropout": "input p training inplace",
}
"""Positional orders of the functional forms that differ from operands followed by attributes."""

ATEN_ARGUMENTS: Mapping[tuple[str, str], str] = {
    ("reshape", "size"): "shape",
    ("expand", "sizes"): "size",
}
"""Names of arguments in ATen schemas that differ for one operation only."""

IGNORED = frozenset(
    (
        "inplace",
        "_stacklevel",
        "cudnn_enabled",
        "cudnn_enable",
        "half_to_float",
        "sparse",
        "scale_grad_by_freq",
        "generator",
        "implicit",
        "layout",
        "pin_memory",
    )
)
"""Arguments that do not affect the result."""

REFUSED: Mapping[str, Any] = {
    "return_indices": False,
    "out": None,
    "max_norm": None,
    "recompute_scale_factor": None,
    "dtype": None,
    "scale": 1,
    "input_scale": 1,
}
"""Arguments that are supported only with this value."""

VARIADIC = frozenset(("reshape", "permute", "expand", "repeat", "flip", "tile"))
"""Operations whose integers may be given one by one."""


def call_named(builder: Builder, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
    """Append a call of the operation `name` with the arguments of its functional or method form."""
    if name not in OPERATIONS:
        raise UnsupportedError(f"the vocabulary has no operation {name!r}")
    operation = OPERATIONS[name]
    if name in VARIADIC and len(args) > 1:
        args = (args[0], gathered(args[1:]))
    order = ORDERS[name].split() if name in ORDERS else [*operation.operands, *operation.attributes, "inplace"]
    return call(builder, operation, bind(name, order, args, kwargs))


def aten_argument(word: str, key: str) -> str:
    """The name that the vocabulary gives to an argument of an ATen schema."""
    return ATEN_ARGUMENTS.get((word, key)) or ARGUMENTS.get(key, key)


def bind(name: str, order: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the positional arguments by `order`."""
    if len(args) > len(order):
        raise UnsupportedError(f"{name} has {len(args)} positional arguments, expected at most {len(order)}")
    bound = dict(zip(order, args, strict=False))
    return bound | {ARGUMENTS.get(key, key): value for key, value in kwargs.items()}


def call(builder: Builder, operation: Operation, bound: dict[str, Any]) -> fx.Node:
    """Split named arguments into operands and attributes and append the call."""
    if operation.operands and operation.operands[0] not in bound and "input" in bound:
        bound[operation.operands[0]] = bound.pop("input")
    # What is left after the operands has to be an attribute: an argument is never dropped without being known.
    operands = [bound.pop(name, None) for name in operation.operands]
    attributes: dict[str, Any] = {}
    for key, value in bound.items():
        if key in operation.attributes:
            attributes[key] = value
        elif (key in REFUSED and value != REFUSED[key]) or (key not in REFUSED and key not in IGNORED):
            raise UnsupportedError(f"{operation.name} with {key}={value!r} is not supported")
    return builder.call(operation.name, operands, attributes)


def gathered(items: tuple[Any, ...]) -> Any:
    """`(2, 3)` from either `(2, 3)` or `((2, 3),)`."""
    if len(items) != 1 or isinstance(items[0], int):
        return tuple(items)
    only = items[0]
    # A single node may be a number or a whole `torch.Size`.
    return tuple(items) if isinstance(only, fx.Node) and isinstance(only.meta["twins"][0], int) else only

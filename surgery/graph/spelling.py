"""From the many spellings of an operation to its one word: functions, methods, operators, in-place forms, ATen
overloads.

`respell` takes a traced call and appends the same computation in normal form to a `Builder`. Most calls only need their
name looked up and their arguments bound; the few whose arguments mean something different have a reader in `READERS`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from surgery.graph.builder import Builder, UnsupportedError, twins_of
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
    "imul": "mul",
    "isub": "sub",
    "itruediv": "div",
    "less": "lt",
    "less_equal": "le",
    "linalg_vector_norm": "vector_norm",
    "logical_and": "and_",
    "mm": "matmul",
    "mod": "remainder",
    "mul_": "mul",
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
"""Arguments that do not change what is computed."""

REFUSED: Mapping[str, Any] = {
    "return_indices": False,
    "out": None,
    "max_norm": None,
    "recompute_scale_factor": None,
    "dtype": None,
    "scale": 1,
    "input_scale": 1,
}
"""Arguments that are understood only with this value."""

_VARIADIC: Mapping[str, str] = {
    "reshape": "shape",
    "permute": "dims",
    "expand": "size",
    "repeat": "repeats",
    "flip": "dims",
    "tile": "dims",
    "zeros": "size",
    "ones": "size",
}
"""Operations whose integers may come one by one."""

Reader = Callable[[Builder, tuple[Any, ...], dict[str, Any]], Any]


def respell(builder: Builder, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Append what `node` computes, on `args` and `kwargs` of the new graph; return the resulting value.

    Raises UnsupportedError where the vocabulary has no word for it.
    """
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return _respell_aten(builder, target, args, kwargs)
    name = plain_name(node)
    if name is None:
        raise UnsupportedError(f"{target} is not an operation of torch")
    return _respell_named(builder, name, args, kwargs)


def plain_name(node: fx.Node) -> str | None:
    """The name of the function or method that a traced node calls, without in-place marks; None for foreign
    functions.
    """
    if node.op == "call_method":
        return _without_mark(str(node.target))
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return _without_mark(target._opname)
    if not is_torch_function(target):
        return None
    if target is torch.nn.functional.unfold:
        return "im2col"
    return _without_mark(target.__name__.removeprefix("_") if target.__name__ in _PRIVATE else target.__name__)


_PRIVATE = frozenset(f"_max_pool{n}d" for n in (1, 2, 3)) | frozenset(f"_adaptive_max_pool{n}d" for n in (1, 2, 3))


def is_torch_function(target: Any) -> bool:
    """True for functions of torch, `operator` and `math`, and for `getattr`; false for a user's own."""
    if target is getattr or getattr(operator, getattr(target, "__name__", ""), None) is target:
        return True
    module = getattr(target, "__module__", None) or getattr(type(getattr(target, "__self__", None)), "__module__", "")
    return str(module).split(".")[0] in ("torch", "_operator", "math", "builtins")


def is_in_place(node: fx.Node) -> bool:
    """True where a traced call overwrites its first argument."""
    if node.op == "call_function" and node.target in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
        return True
    if node.kwargs.get("inplace") is True:
        return True
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.is_mutable
    name = str(target) if node.op == "call_method" else getattr(target, "__name__", "")
    positional_flag = len(node.args) > 1 and node.args[-1] is True and _has_positional_inplace(name, len(node.args))
    return (name.endswith("_") and not name.endswith("__") and hasattr(torch.Tensor, name)) or positional_flag


def _has_positional_inplace(name: str, count: int) -> bool:
    function: Any = getattr(torch.nn.functional, name, None)
    code = getattr(function, "__code__", None)
    return code is not None and count <= code.co_argcount and code.co_varnames[count - 1] == "inplace"


def _without_mark(name: str) -> str:
    return name.removesuffix("_") if name.endswith("_") and not name.endswith("__") and name not in OPERATIONS else name


def _respell_named(builder: Builder, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = ALIASES.get(name, name)
    if name in READERS:
        return READERS[name](builder, args, kwargs)
    if name not in OPERATIONS:
        raise UnsupportedError(f"the vocabulary has no operation {name!r}")
    operation = OPERATIONS[name]
    if name in _VARIADIC and name not in ("zeros", "ones") and len(args) > 1:
        args = (args[0], _gathered(args[1:]))
    order = ORDERS[name].split() if name in ORDERS else [*operation.operands, *operation.attributes, "inplace"]
    return _call(builder, operation, _bind(name, order, args, kwargs))


def _respell_aten(builder: Builder, overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ATen overloads name their arguments in a schema: bind by name, then read like any other spelling."""
    name = _without_mark(overload._opname)
    schema = [argument.name for argument in overload._schema.arguments]
    named = {**dict(zip(schema, args, strict=False)), **kwargs}
    try:
        if name in ATEN_READERS:
            return ATEN_READERS[name](builder, named)
        word = ALIASES.get(name, name)
        if word in READERS or word not in OPERATIONS:
            return _respell_named(builder, name, args, kwargs)
        return _call(builder, OPERATIONS[word], {_aten_argument(word, key): value for key, value in named.items()})
    except UnsupportedError:
        return builder.foreign(overload, args, kwargs)


def _aten_argument(word: str, key: str) -> str:
    return ATEN_ARGUMENTS.get((word, key)) or ARGUMENTS.get(key, key)


def _bind(name: str, order: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if len(args) > len(order):
        raise UnsupportedError(f"{name} with {len(args)} positional arguments")
    bound = dict(zip(order, args, strict=False))
    return bound | {ARGUMENTS.get(key, key): value for key, value in kwargs.items()}


def _call(builder: Builder, operation: Operation, bound: dict[str, Any]) -> fx.Node:
    """Split named arguments into operands and attributes and append the call."""
    if operation.operands and operation.operands[0] not in bound and "input" in bound:
        bound[operation.operands[0]] = bound.pop("input")
    operands = [bound.pop(name, None) for name in operation.operands]
    attributes: dict[str, Any] = {}
    for key, value in bound.items():
        if key in operation.attributes:
            attributes[key] = value
        elif (key in REFUSED and value != REFUSED[key]) or (key not in REFUSED and key not in IGNORED):
            raise UnsupportedError(f"{operation.name} with {key}={value!r}")
    return builder.call(operation.name, operands, attributes)


def _gathered(items: tuple[Any, ...]) -> Any:
    """`(2, 3)` from either `(2, 3)` or `((2, 3),)`."""
    return items[0] if len(items) == 1 and not isinstance(items[0], (int, fx.Node)) else _sizes(items)


def _sizes(items: tuple[Any, ...]) -> Any:
    """A single node may be a whole `torch.Size`; several are numbers."""
    if len(items) == 1 and isinstance(items[0], fx.Node) and not isinstance(items[0].meta["twins"][0], int):
        return items[0]
    return tuple(items)


# Readers: spellings whose arguments need more than binding.


def _get_attribute(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, name = args
    if name in ("shape", "device"):
        return builder.call(name, [value], {})
    if name == "data":
        return value
    if name in ("T", "mT") and twins_of(value)[0].dim() == 2:
        return builder.call("transpose", [value], {"dim0": -2, "dim1": -1})
    first = twins_of(value)[0]
    if isinstance(first, tuple) and hasattr(first, name):
        position = [item is getattr(first, name) for item in first].index(True)
        return builder.call("getitem", [value], {"index": position})
    raise UnsupportedError(f"attribute {name!r} of a tensor")


def _size(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, *rest = args
    dim = rest[0] if rest else kwargs.get("dim")
    return builder.call("shape", [value], {}) if dim is None else builder.call("size", [value], {"dim": dim})


def _get_item(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, index = args
    if isinstance(value, (tuple, list)):
        return value[index]
    if isinstance(value, fx.Node) and value.meta["operation"] == "shape" and isinstance(index, int):
        return builder.call("size", [value.args[0]], {"dim": index})
    return builder.call("getitem", [value], {"index": index})


def _two(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [*args, kwargs["other"]] if "other" in kwargs else list(args[:2])


def _scaled_sum(name: str) -> Reader:
    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        left, right = _two(args, kwargs)
        alpha = kwargs.get("alpha", 1)
        plain = not isinstance(right, fx.Node)
        scaled = right if alpha == 1 else right * alpha if plain else builder.call("mul", [right, alpha], {})
        return builder.call(name, [left, scaled], {})

    return read


def _reversed_sub(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _scaled_sum("sub")(builder, (args[1], args[0]), kwargs)


def _divide(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    left, right = _two(args, kwargs)
    mode = kwargs.get("rounding_mode")
    if mode not in (None, "floor"):
        raise UnsupportedError(f"division with rounding_mode={mode!r}")
    return builder.call("floor_divide" if mode else "div", [left, right], {})


def _add_product(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`addmm(bias, a, b)` and `baddbmm`: beta bias + alpha a b."""
    scale = {key: kwargs.get(key, 1) for key in ("alpha", "beta")}
    product: Any = builder.call("matmul", args[1:3], {})
    if scale["alpha"] != 1:
        product = builder.call("mul", [product, scale["alpha"]], {})
    bias = args[0] if scale["beta"] == 1 else builder.call("mul", [args[0], scale["beta"]], {})
    return builder.call("add", [product, bias], {})


def _add_quotient(name: str) -> Reader:
    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inner: Any = builder.call(name, args[1:3], {})
        if kwargs.get("value", 1) != 1:
            inner = builder.call("mul", [inner, kwargs["value"]], {})
        return builder.call("add", [args[0], inner], {})

    return read


def _einsum(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    return builder.call("einsum", [operands], {"equation": equation})


def _extremum(name: str) -> Reader:
    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = _bind(name, ["input", "dim", "keepdim"], args, kwargs)
        if "other" in bound or isinstance(bound.get("dim"), fx.Node):
            return builder.call(f"{name}imum", [bound["input"], bound.get("other", bound.get("dim"))], {})
        if "dim" in bound:
            return builder.call(f"{name}_dim", [bound.pop("input")], bound)
        return builder.call(name, [bound["input"]], {})

    return read


def _spread_of(name: str) -> Reader:
    """`var` and `std` have said `unbiased` and say `correction`."""

    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flag = len(args) > 2 or (len(args) > 1 and isinstance(args[1], bool))
        order = ["input", "unbiased"] if flag and len(args) == 2 else ["input", "dim", "unbiased", "keepdim"]
        bound = _bind(name, order, args, kwargs)
        unbiased = bound.pop("unbiased", None)
        if unbiased is not None:
            bound["correction"] = int(unbiased)
        return builder.call(name, [bound.pop("input")], bound)

    return read


def _to(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    attributes = {key: kwargs[key] for key in ("dtype", "device") if kwargs.get(key) is not None}
    for item in [*args[1:], *([kwargs["other"]] if "other" in kwargs else [])]:
        if isinstance(item, torch.dtype):
            attributes["dtype"] = item
        elif isinstance(item, fx.Node) and isinstance(item.meta["twins"][0], torch.Tensor):
            return builder.call("type_as", [args[0], item], {})
        elif not isinstance(item, bool):
            attributes["device"] = item
    return builder.call("to", [args[0]], attributes)


def _cast(dtype: torch.dtype) -> Reader:
    return lambda builder, args, kwargs: builder.call("to", [args[0]], {"dtype": dtype})


def _identity(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _bounded(attribute: str) -> Reader:
    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value, bound = [*args, *kwargs.values()]
        return builder.call("clamp", [value], {attribute: bound})

    return read


def _new(name: str) -> Reader:
    """`x.new_zeros(size)` is `zeros(size)` with the dtype and device of x."""

    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        like = args[0]
        attributes = {"size": _gathered(args[1:]) if name != "full" else args[1]} if len(args) > 1 else {}
        attributes |= {"fill_value": args[2]} if len(args) > 2 and name == "full" else {}
        attributes |= {key: value for key, value in kwargs.items() if key in OPERATIONS[name].attributes}
        attributes["dtype"] = attributes.get("dtype") or like.meta["dtype"]
        attributes["device"] = attributes.get("device") or builder.call("device", [like], {})
        return builder.call(name, [], attributes)

    return read


def _create(name: str) -> Reader:
    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        size = {} if not args else {"size": args[0] if name == "full" else _gathered(args)}
        fill = {"fill_value": args[1]} if name == "full" and len(args) > 1 else {}
        return _call(builder, OPERATIONS[name], size | fill | kwargs)

    return read


def _arange(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = {1: ("end",), 2: ("start", "end"), 3: ("start", "end", "step")}.get(len(args), ())
    return _call(builder, OPERATIONS["arange"], dict(zip(names, args, strict=True)) | kwargs)


def _transposed(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return builder.call("transpose", [args[0]], {"dim0": 0, "dim1": 1})


def _moved(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    sources, targets = ([item] if isinstance(item, int) else list(item) for item in args[1:3])
    rank = twins_of(args[0])[0].dim()
    sources, targets = [item % rank for item in sources], [item % rank for item in targets]
    order = [item for item in range(rank) if item not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return builder.call("permute", [args[0]], {"dims": tuple(order)})


def _index_put_free(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`aten.index(x, [None, i])` is `x[:, i]`."""
    index = tuple(slice(None) if item is None else item for item in args[1])
    return builder.call("getitem", [args[0]], {"index": index[0] if len(index) == 1 else index})


def _square_root(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(args[0], fx.Node) and isinstance(args[0].meta["twins"][0], torch.Tensor):
        return builder.call("sqrt", [args[0]], {})
    raise UnsupportedError(f"{math.sqrt.__name__} of a number that depends on the batch")


READERS: Mapping[str, Reader] = {
    "getattr": _get_attribute,
    "size": _size,
    "getitem": _get_item,
    "add": _scaled_sum("add"),
    "sub": _scaled_sum("sub"),
    "rsub": _reversed_sub,
    "div": _divide,
    "addmm": _add_product,
    "baddbmm": _add_product,
    "addcmul": _add_quotient("mul"),
    "addcdiv": _add_quotient("div"),
    "einsum": _einsum,
    "max": _extremum("max"),
    "min": _extremum("min"),
    "var": _spread_of("var"),
    "std": _spread_of("std"),
    "to": _to,
    "_to_copy": _to,
    "type": _to,
    "float": _cast(torch.float32),
    "double": _cast(torch.float64),
    "half": _cast(torch.float16),
    "bfloat16": _cast(torch.bfloat16),
    "int": _cast(torch.int32),
    "long": _cast(torch.int64),
    "bool": _cast(torch.bool),
    "detach": _identity,
    "alias": _identity,
    "lift_fresh_copy": _identity,
    "requires_grad_": _identity,
    "clamp_min": _bounded("min"),
    "clamp_max": _bounded("max"),
    "new_zeros": _new("zeros"),
    "new_ones": _new("ones"),
    "new_full": _new("full"),
    "new_empty": _new("zeros"),
    "zeros": _create("zeros"),
    "ones": _create("ones"),
    "full": _create("full"),
    "arange": _arange,
    "t": _transposed,
    "movedim": _moved,
    "moveaxis": _moved,
    "index": _index_put_free,
    "sqrt": _square_root,
}


def _aten_convolution(builder: Builder, named: dict[str, Any]) -> Any:
    """The one convolution of decomposed programs, back into `conv2d` and its kin."""
    rank = len(named["stride"])
    name = f"conv_transpose{rank}d" if named["transposed"] else f"conv{rank}d"
    attributes = {key: named[key] for key in OPERATIONS[name].attributes}
    return builder.call(name, [named["input"], named["weight"], named["bias"]], attributes)


def _aten_batch_norm(builder: Builder, named: dict[str, Any]) -> Any:
    """All of ATen's forms; those without statistics have no such arguments."""
    operands = [named.get(key) for key in ("input", "running_mean", "running_var", "weight", "bias")]
    attributes = {"training": named.get("training", False), "momentum": named["momentum"], "eps": named["eps"]}
    return builder.call("batch_norm", operands, attributes)


def _first_output(read: Callable[[Builder, dict[str, Any]], Any]) -> Callable[[Builder, dict[str, Any]], Any]:
    """Decomposed programs return saved statistics behind the result; only the result is ever read in inference."""
    return lambda builder, named: (read(builder, named), None, None)


def _aten_native_layer_norm(builder: Builder, named: dict[str, Any]) -> Any:
    operands = [named["input"], named["weight"], named["bias"]]
    attributes = {"normalized_shape": named["normalized_shape"], "eps": named["eps"]}
    return builder.call("layer_norm", operands, attributes)


def _aten_embedding(builder: Builder, named: dict[str, Any]) -> Any:
    return builder.call("embedding", [named["indices"], named["weight"]], {})


def _aten_pad(builder: Builder, named: dict[str, Any]) -> Any:
    return builder.call("pad", [named["self"]], {"pad": named["pad"], "value": named.get("value")})


def _aten_upsample(mode: str) -> Callable[[Builder, dict[str, Any]], Any]:
    def read(builder: Builder, named: dict[str, Any]) -> Any:
        attributes = {"size": named.get("output_size"), "scale_factor": named.get("scale_factors"), "mode": mode}
        if "align_corners" in named:
            attributes["align_corners"] = named["align_corners"]
        return builder.call("interpolate", [named.get("input", named.get("self"))], attributes)

    return read


def _aten_max_pool_with_indices(builder: Builder, named: dict[str, Any]) -> Any:
    attributes = {key: value for key, value in named.items() if key != "self"}
    return (builder.call("max_pool2d", [named["self"]], attributes), None)


ATEN_READERS: Mapping[str, Callable[[Builder, dict[str, Any]], Any]] = {
    "convolution": _aten_convolution,
    "batch_norm": _aten_batch_norm,
    "_native_batch_norm_legit_no_training": _first_output(_aten_batch_norm),
    "_native_batch_norm_legit": _first_output(_aten_batch_norm),
    "native_layer_norm": _first_output(_aten_native_layer_norm),
    "embedding": _aten_embedding,
    "constant_pad_nd": _aten_pad,
    "upsample_nearest2d": _aten_upsample("nearest"),
    "upsample_bilinear2d": _aten_upsample("bilinear"),
    "upsample_bicubic2d": _aten_upsample("bicubic"),
    "max_pool2d_with_indices": _aten_max_pool_with_indices,
}

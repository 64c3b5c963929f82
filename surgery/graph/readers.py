"""Readers: spellings whose arguments need more than binding, each read into one or a few calls of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from surgery.graph.binding import bind, call, call_named, gathered
from surgery.graph.builder import Builder, UnsupportedError, twins_of
from surgery.graph.vocabulary import OPERATIONS

Reader = Callable[[Builder, tuple[Any, ...], dict[str, Any]], Any]


def _get_attribute(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, name = args
    if name in ("shape", "device"):
        return builder.call(name, [value], {})
    if name == "data":
        return value
    if name in ("T", "mT") and twins_of(value)[0].dim() == 2:
        return builder.call("transpose", [value], {"dim0": -2, "dim1": -1})
    # The named tuples of `max` and `topk`: fields by identity, because equal tensors are compared element by element.
    first = twins_of(value)[0]
    if isinstance(first, tuple) and hasattr(first, name):
        position = [item is getattr(first, name) for item in first].index(True)
        return builder.call("getitem", [value], {"index": position})
    raise UnsupportedError(f"the attribute {name!r} of a tensor is not supported")


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


def _divide(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    left, right = _two(args, kwargs)
    mode = kwargs.get("rounding_mode")
    if mode not in (None, "floor"):
        raise UnsupportedError(f"division with rounding_mode={mode!r} is not supported")
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
        bound = bind(name, ["input", "dim", "keepdim"], args, kwargs)
        # `torch.max` is three functions: of all elements, along a dimension, and of two tensors.
        if "other" in bound or isinstance(bound.get("dim"), fx.Node):
            return builder.call(f"{name}imum", [bound["input"], bound.get("other", bound.get("dim"))], {})
        if "dim" in bound:
            return builder.call(f"{name}_dim", [bound.pop("input")], bound)
        return builder.call(name, [bound["input"]], {})

    return read


def _spread_of(name: str) -> Reader:
    """`var` and `std`: older spellings have `unbiased`, newer ones `correction`."""

    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # `var(x, True)` has `unbiased` where `var(x, 1)` has the dimension, and booleans are integers in Python.
        flag = len(args) > 2 or (len(args) > 1 and isinstance(args[1], bool))
        order = ["input", "unbiased"] if flag and len(args) == 2 else ["input", "dim", "unbiased", "keepdim"]
        bound = bind(name, order, args, kwargs)
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
        attributes = {"size": gathered(args[1:]) if name != "full" else args[1]} if len(args) > 1 else {}
        attributes |= {"fill_value": args[2]} if len(args) > 2 and name == "full" else {}
        attributes |= {key: value for key, value in kwargs.items() if key in OPERATIONS[name].attributes}
        attributes["dtype"] = attributes.get("dtype") or like.meta["dtype"]
        attributes["device"] = attributes.get("device") or builder.call("device", [like], {})
        return builder.call(name, [], attributes)

    return read


def _create(name: str) -> Reader:
    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        size = {} if not args else {"size": args[0] if name == "full" else gathered(args)}
        fill = {"fill_value": args[1]} if name == "full" and len(args) > 1 else {}
        return call(builder, OPERATIONS[name], size | fill | kwargs)

    return read


def _arange(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = {1: ("end",), 2: ("start", "end"), 3: ("start", "end", "step")}.get(len(args), ())
    return call(builder, OPERATIONS["arange"], dict(zip(names, args, strict=True)) | kwargs)


def _softmax(name: str) -> Reader:
    """`F.softmax` has a stack level before the dtype, `torch.softmax` has not."""

    def read(builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        dtypes = [item for item in args if isinstance(item, torch.dtype)]
        named = {key: value for key, value in kwargs.items() if key != "_stacklevel"}
        return call_named(builder, name, args[:2], named | ({"dtype": dtypes[0]} if dtypes else {}))

    return read


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
    # `math.sqrt` and `torch.sqrt` have one name here; the first reads a size, as attention does for its scale.
    if isinstance(args[0], fx.Node) and isinstance(args[0].meta["twins"][0], torch.Tensor):
        return builder.call("sqrt", [args[0]], {})
    raise UnsupportedError("the square root of a number that depends on the batch is not supported")


READERS: Mapping[str, Reader] = {
    "getattr": _get_attribute,
    "size": _size,
    "getitem": _get_item,
    "add": _scaled_sum("add"),
    "sub": _scaled_sum("sub"),
    "rsub": lambda builder, args, kwargs: _scaled_sum("sub")(builder, (args[1], args[0]), kwargs),
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
    "new_empty": _new("zeros"),  # what the memory held before is no value that a model may rely on
    "zeros": _create("zeros"),
    "ones": _create("ones"),
    "full": _create("full"),
    "arange": _arange,
    "t": lambda builder, args, kwargs: builder.call("transpose", [args[0]], {"dim0": 0, "dim1": 1}),
    "movedim": _moved,
    "moveaxis": _moved,
    "index": _index_put_free,
    "sqrt": _square_root,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
}
"""Readers by the name that is spelled."""

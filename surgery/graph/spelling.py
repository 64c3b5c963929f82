"""From the many spellings of an operation to its one name: functions, methods, operators, in-place forms, ATen.

`respell` takes a traced call and appends the same computation in normal form to a `Builder`. Most calls only need their
name looked up and their arguments bound; the few whose arguments mean something different have a reader.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from surgery.graph.aten import ATEN_READERS
from surgery.graph.binding import ALIASES, aten_argument, call, call_named
from surgery.graph.builder import Builder, UnsupportedError
from surgery.graph.readers import READERS
from surgery.graph.vocabulary import OPERATIONS


def respell(builder: Builder, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Append what `node` computes, on `args` and `kwargs` of the new graph; return the resulting value.

    Raises UnsupportedError where the vocabulary has no operation for it.
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


IN_PLACE_OPERATORS = frozenset(
    getattr(operator, name) for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior")
)
"""The operators that tensors carry out in place."""


def is_in_place(node: fx.Node) -> bool:
    """True where a traced call overwrites its first argument."""
    if node.op == "call_function" and node.target in IN_PLACE_OPERATORS:
        return True
    if plain_name(node) == "requires_grad_":
        return False  # the one method with an underscore that writes no numbers
    if node.kwargs.get("inplace") is True:
        return True
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.is_mutable
    name = str(target) if node.op == "call_method" else getattr(target, "__name__", "")
    if name.endswith("_") and not name.endswith("__") and hasattr(torch.Tensor, name):
        return True
    # `F.relu(x, True)`: only the signature of the function says that the last argument is `inplace`.
    count = len(node.args)
    code = getattr(getattr(torch.nn.functional, name, None), "__code__", None)
    if code is None or count < 2 or node.args[-1] is not True:
        return False
    return count <= code.co_argcount and code.co_varnames[count - 1] == "inplace"


def _without_mark(name: str) -> str:
    """The name without the underscore of in-place methods; `and_` and `requires_grad_` are names of their own."""
    if not name.endswith("_") or name.endswith("__") or name in OPERATIONS or name in READERS:
        return name
    return name.removesuffix("_")


def _respell_named(builder: Builder, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = ALIASES.get(name, name)
    return READERS[name](builder, args, kwargs) if name in READERS else call_named(builder, name, args, kwargs)


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
        return call(builder, OPERATIONS[word], {aten_argument(word, key): value for key, value in named.items()})
    except UnsupportedError:
        return builder.foreign(overload, args, kwargs)

"""Overloads of ATen by name, and which of them compute on tensors and do nothing else.

Names come from files. The schema decides, because a list of forbidden names is never complete: `aten.save` writes a
file, `aten.from_file` reads any path, and both are marked like every other operator.
"""

from __future__ import annotations

import re
from typing import Any

import torch

_PLAIN = {"Tensor", "int", "float", "bool", "complex", "number", "str", "Device", "Generator"}
_WRAPPED = re.compile(r"(?:Optional|List)\[(.*)\]")


def overload_called(namespace: str, name: str, overload: str) -> Any:
    """The overload `namespace.name.overload` if it only computes on tensors and numbers; None for every other name."""
    packet = getattr(getattr(torch.ops, namespace), name, None)
    found = getattr(packet, overload, None) if isinstance(packet, torch._ops.OpOverloadPacket) else None
    return found if isinstance(found, torch._ops.OpOverload) and computes(found._schema) else None


def computes(schema: Any) -> bool:
    """Whether an operator takes and returns only tensors and plain values, and at least one tensor.

    An operator for values of any type, for storages, futures or dictionaries belongs to TorchScript's own runtime, as
    `save(t item, str filename)` does. Text that comes first names a file, as in `from_file(str filename, ...)`, unless
    tensors follow, as in `einsum(str equation, Tensor[] tensors)`. Without any tensor an operator sets global state,
    as `manual_seed(int seed)` does, or checks a size: then it takes a `Scalar` and returns nothing.
    """
    arguments = [_base(str(argument.type)) for argument in schema.arguments]
    results = [_base(str(result.type)) for result in schema.returns]
    if not all(name in _PLAIN for name in (*arguments, *results)) or "..." in str(schema):
        return False
    if arguments[:1] == ["str"]:
        return arguments[1:2] == ["Tensor"]
    return "Tensor" in (*arguments, *results) or (arguments[:1] == ["number"] and not results)


def _base(type_name: str) -> str:
    while found := _WRAPPED.fullmatch(type_name):
        type_name = found[1]
    return type_name

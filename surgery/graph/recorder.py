"""Recording a model's forward pass with torch.fx, down to functions: no module is a leaf, so no module has to be known.

The ladder of `trace` has two of its rungs here. The plain recorder knows no values and stops where the model branches
on a size. The recorder with values carries the twins of `surgery.graph.shapes` along, so such branches resolve and the
batch stays free.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn

from surgery.graph import shapes
from surgery.graph.builder import UnsupportedError, twins_of
from surgery.graph.functional_modules import FUNCTIONAL_FORMS
from surgery.graph.spelling import is_torch_function

NOT_THE_USERS = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}", "<")
"""Source files that are never the position of an operation: those of torch and surgery, and generated code."""

_CREATIONS: Mapping[str, Callable[..., torch.Tensor]] = {
    "new_zeros": torch.zeros,
    "new_ones": torch.ones,
    "new_full": torch.full,
}


def _has_proxy(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_has_proxy, value))
    return isinstance(value, fx.Proxy)


class Recorder(fx.Tracer):
    """Records functions, methods, parameters and buffers, each with module path, file and line in `meta["place"]`."""

    def __init__(self, *, values: bool, input_twins: shapes.Twins, device: torch.device) -> None:
        super().__init__(autowrap_modules=(math,))
        self.proxy_buffer_attributes = True
        self.values = values
        self.input_twins = input_twins
        self.device = device
        self.tensor_names: dict[int, str] = {}

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        named = [*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False)]
        # Reversed, so that a tied tensor has the name under which the model lists it first.
        self.tensor_names = {id(tensor): name for name, tensor in reversed(named)}
        return super().trace(root, concrete_args)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # fx keeps the modules of torch.nn as opaque calls, each of which would need a translation of its own. Inside
        # them are functions, and the vocabulary knows functions.
        return False

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        form = FUNCTIONAL_FORMS.get(type(m))
        # Hooks may change inputs or outputs, and a functional form would not call them.
        if form is not None and not (m._forward_hooks or m._forward_pre_hooks):
            return super().call_module(m, lambda *a, **k: form(m, *a, **k), args, kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        # By identity: a model may read a tensor through a list or another module, where its path is unknown.
        name = self.tensor_names.get(id(attr_val)) if isinstance(attr_val, torch.Tensor) else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            known = None if self.values else lambda node: KnownProxy(node, self, attr_val)
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {}, proxy_factory_fn=known)
        return parameter_proxy_cache[name]

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        if kind == "call_function" and not is_torch_function(target):
            return target(*args, **kwargs)  # a function that `fx.wrap` hides: record its calls instead
        if self.values and kind == "call_method" and target in _CREATIONS and not any(map(_has_proxy, args[1:])):
            # A real tensor where no size depends on the batch, because models write into it.
            like, *sizes = args
            settings = {key: value for key, value in kwargs.items() if key not in ("dtype", "device")}
            dtype = kwargs.get("dtype") or like.node.meta["twins"][0].dtype
            return _CREATIONS[target](*sizes, dtype=dtype, device=self.device, **settings)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        if self.values and kind.startswith("call"):
            value = proxy.node.meta["twins"]
            # A plain number instead of a proxy lets the model branch on it, index lists with it and print it.
            if shapes.is_constant(value):
                return value[0]
        return proxy

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["place"] = (self.scope.module_path, *_users_line())
        if self.values and node.op != "output":
            node.meta["twins"] = evaluate(node, self.root, self.input_twins)
        return node

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ValueProxy(node, self) if self.values else RecordingProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if not self.values:
            raise UnsupportedError("a branch depends on a size or on the values of a tensor")
        first, second = obj.node.meta["twins"]
        if isinstance(first, torch.Tensor):
            raise UnsupportedError("a branch depends on the values of a tensor")
        if bool(first) != bool(second):
            raise shapes.BatchDependentError("a branch depends on the number of images")
        return bool(first)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        if not self.values:
            raise UnsupportedError("a loop or an unpacking depends on the size of a tensor")
        count = _length(obj.node)
        item: Callable[[int], Any] = obj.__getitem__
        return (item(i) for i in range(count))


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


class RecordingProxy(fx.Proxy):
    """A proxy that records in-place operators as such; fx alone would turn `x += y` into `x = x + y`."""

    __iadd__ = _recorded(operator.iadd)
    __isub__ = _recorded(operator.isub)
    __imul__ = _recorded(operator.imul)
    __itruediv__ = _recorded(operator.itruediv)
    __ifloordiv__ = _recorded(operator.ifloordiv)
    __imod__ = _recorded(operator.imod)
    __ipow__ = _recorded(operator.ipow)
    __iand__ = _recorded(operator.iand)
    __ior__ = _recorded(operator.ior)

    def __len__(self) -> int:
        raise UnsupportedError("the length of a tensor is used as a plain number")


class KnownProxy(RecordingProxy):
    """A proxy of a parameter or buffer: its shape and dtype are known without running anything."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, tensor: torch.Tensor) -> None:
        super().__init__(node, tracer)
        self._known = {
            "shape": tensor.shape,
            "ndim": tensor.ndim,
            "dtype": tensor.dtype,
            "size": tensor.size,
            "dim": tensor.dim,
            "numel": tensor.numel,
        }

    def __getattr__(self, k: str) -> Any:
        # Through `__dict__`, because a lookup of `_known` before `__init__` has set it would recurse.
        known = self.__dict__.get("_known", {})
        return known[k] if k in known else super().__getattr__(k)


class ValueProxy(RecordingProxy):
    """A proxy that returns its shape, dtype and other plain attributes itself."""

    def __getattr__(self, k: str) -> Any:
        first, second = self.node.meta["twins"]
        # Sizes that are the same for both batches are numbers; the batch itself is recorded, so it is free later.
        if k == "shape" and isinstance(first, torch.Tensor):
            sizes = zip(first.shape, second.shape, strict=True)
            return tuple(a if a == b else self.size(i) for i, (a, b) in enumerate(sizes))
        found = getattr(first, k)
        if callable(found) or isinstance(found, (torch.Tensor, torch.device)):
            return super().__getattr__(k)
        return found

    def __len__(self) -> int:
        return _length(self.node)

    def __iter__(self) -> Iterator[Any]:
        return self.tracer.iter(self)


def evaluate(node: fx.Node, root: nn.Module, input_twins: shapes.Twins) -> shapes.Twins:
    """The twins of a traced node, given those of its arguments in `meta`."""
    if node.op == "placeholder":
        return input_twins
    if node.op == "get_attr":
        # Look the tensor up without `getattr`, which is patched while recording.
        *modules, name = str(node.target).split(".")
        owner: Any = root
        for part in modules:
            owner = owner._modules[part]
        for table in (owner._parameters, owner._buffers, owner.__dict__):
            if name in table:
                return shapes.of_tensor(table[name])
        raise UnsupportedError(f"the attribute {node.target!r} is not a tensor of the model")
    return run_raw(node, twins_of(node.args), twins_of(node.kwargs))


def _length(node: fx.Node) -> int:
    first, second = map(len, node.meta["twins"])
    if first != second:
        raise shapes.BatchDependentError("the length of a batch is used as a plain number")
    return first


def run_raw(node: fx.Node, args: shapes.Twins, kwargs: shapes.Twins) -> shapes.Twins:
    """Run a traced call, in its own spelling, on the twins of its arguments."""
    target: Any = node.target
    function = _method(target) if node.op == "call_method" else target
    positional = tuple(zip(args[0], args[1], strict=True))
    return shapes.run(function, positional, {key: (kwargs[0][key], kwargs[1][key]) for key in kwargs[0]})


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: getattr(value, name)(*args, **kwargs)


def _users_line() -> tuple[str | None, int | None]:
    # The innermost line of the model's own code: a user can act on it, and not on a line of torch. A model of torch's
    # modules alone, such as `nn.Sequential`, has none: outside the recorder are the lines that called `trace`.
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not Recorder.trace.__code__:
        if not frame.f_code.co_filename.startswith(NOT_THE_USERS):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None, None

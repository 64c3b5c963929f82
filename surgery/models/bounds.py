"""Bounds for building a network from the arguments in a file: the weights in the file say how large it can be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from surgery.errors import ModelFileError

_TENSORS = 5000
_BYTES = 1 << 30


class Bounds(TorchDispatchMode):
    """While it is active, raises ModelFileError for more tensors, or more bytes in them, than a network needs.

    `tensors` and `size`: the number and the bytes of those that the network should have. A constructor makes a few
    more, such as the random values that it copies into its weights. On the meta device, bytes cost nothing.
    """

    def __init__(self, path: Path, *, tensors: int, size: int) -> None:
        super().__init__()
        self.path = path
        self.tensors = _TENSORS + 4 * tensors
        self.size = _BYTES + 4 * size

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if args and isinstance(args[0], (list, tuple)) and all(isinstance(size, int) for size in args[0]):
            self.tensors -= 1
            if getattr(keywords.get("device"), "type", "cpu") != "meta":
                self.size -= math.prod(args[0]) * getattr(keywords.get("dtype"), "itemsize", 4)
        if min(self.tensors, self.size) < 0:
            raise ModelFileError(
                f"{self.path}: the architecture and its arguments make a network that is far larger than these weights",
                hint="give the architecture and the arguments that the weights were trained with",
            )
        return func(*args, **keywords)

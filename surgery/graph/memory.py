"""The memory that a forward pass of a graph takes, estimated from its shapes before any of it is used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import fx
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.graph.graph import Graph
from surgery.graph.nodes import operation_of

_LIMIT = "/sys/fs/cgroup/memory.max"
"""The limit of a container."""


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that can be had on `device`: of a GPU, or of the machine; without bound where nothing tells."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if kind == "meta":
        return sys.maxsize
    # The pages that the system calls free leave out its file cache, which it gives up for programs.
    found = [_number_in("/proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024), _number_in(_LIMIT, r"(\d+)", 1)]
    return min([number for number in found if number is not None], default=sys.maxsize)


def size_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the values of `tensors`; those on the meta device count as if they had values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def forward_memory(graph: Graph, images: int) -> int:
    """Bytes of the values that a forward pass of `images` images holds at its widest moment, without gradients.

    A value is held from the node that computes it to its last reader. A view takes no memory, but holds what it shows.
    The weights, and what kernels take in between (such as the columns of a convolution), are not counted.
    """
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    ends: dict[fx.Node, int] = {}
    # Backward: the last reader of a view is known when the value that it shows is reached.
    for node in reversed(graph.graph.nodes):
        readers = (ends[user] if _is_view(user) else order[user] for user in node.users)
        ends[node] = max(readers, default=order[node])
    held = peak = 0
    released: dict[int, int] = {}
    for node in graph.graph.nodes:
        size = _size(node, images)
        held += size
        peak = max(peak, held)
        released[ends[node]] = released.get(ends[node], 0) + size
        held -= released.get(order[node], 0)
    return peak


def check_memory(graph: Graph, images: int, *, device: torch.device | str | None = None) -> None:
    """Raise InputError where a forward pass of `images` images takes more memory than `device` has free.

    `device` is by default that of the graph's tensors.
    """
    if device is None:
        device = next((tensor.device for tensor in graph.tensors().values()), torch.device("cpu"))
    needed, free = forward_memory(graph, images), free_memory(device)
    if needed > free:
        shape = "x".join(str(size) for size in graph.input_shape)
        raise InputError(
            f"not enough memory for images of {shape}: a forward pass of {images} images through {graph.model_name}"
            f" takes about {gigabytes(needed)}, and {gigabytes(free)} are free",
            hint="give a smaller `input_shape`, or use a machine with more memory",
        )


def _number_in(path: str, pattern: str, unit: int) -> int | None:
    """The first number that `pattern` finds in a file, times `unit`; None where there is no such file or number."""
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return int(found[1]) * unit if found else None


def gigabytes(size: int) -> str:
    """`1.5 GB`, as messages write a number of bytes."""
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"


def _is_view(node: fx.Node) -> bool:
    operation = operation_of(node) if node.op == "call_function" else None
    return operation is not None and operation.view


def _size(node: fx.Node, images: int) -> int:
    """Bytes of a node's value that are its own. Sizes are affine in the batch: the twins give those of every batch."""
    if node.op in ("get_attr", "output") or _is_view(node):
        return 0
    two, three = (
        size_of(leaf for leaf in pytree.tree_leaves(twin) if isinstance(leaf, torch.Tensor))
        for twin in node.meta["twins"]
    )
    return max(0, two + (images - 2) * (three - two))

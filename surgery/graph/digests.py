"""Digests of weights, and findings about a graph that are kept only while its nodes and weights stay the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from surgery.graph.graph import Graph

Finding = Mapping[str, Any]
"""A fact about a graph, such as its certificate, as plain data for JSON."""

_WIDTH = 2039
"""Columns of a checksum. A prime: rows of a layer are no multiple of it, so rows that change places change the sums."""

_LARGE, _SAMPLED = 8192, 64
"""Of a tensor with more 64-bit words than the first number, one word in so many is read: one for each 512 bytes."""


def weight_digest(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers of `module`, in the order of their names: names, dtypes, shapes and bytes.

    Device, memory layout and ties between tensors do not matter.
    """
    tensors = chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    return content_digest(None, tensors)


def content_digest(description: Any, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of plain data and of named tensors."""
    digest = hashlib.sha256(b"" if description is None else json.dumps(description, separators=(",", ":")).encode())
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        # Without its length, a name could contain what follows it, and two lists of tensors could be the same bytes.
        digest.update(f"\n{len(name)} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor).cpu().numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept:
    """A finding with the state of the graph that it is about."""

    content: Finding
    identity: tuple[Any, ...]
    sums: tuple[Tensor, ...]


# Keyed by the graph object: copies and unpickled graphs start without findings, and a graph can be collected.
_KEPT: WeakKeyDictionary[Graph, _Kept] = WeakKeyDictionary()


def remember(graph: Graph, finding: Finding) -> None:
    """Keep `finding` with `graph`; `recall` returns it until a node or a weight changes, and `save_graph` writes it."""
    _KEPT[graph] = _Kept(content=finding, identity=_identity(graph), sums=_checksums(graph))


def recall(graph: Graph) -> Finding | None:
    """The finding that was remembered for `graph`, or None if there is none or the graph has changed since."""
    kept = _KEPT.get(graph)
    if kept is None or kept.identity != _identity(graph):
        return None
    # torch does not count writes through `.data` or a NumPy view, so values are read too: all of small tensors, and a
    # sample of large ones, which shows every write of 512 bytes or more in a row. To read 44 MB in full would take a
    # tenth of an extraction. What this misses can make scales wrong; the static laws are checked at every use.
    same = all(torch.equal(before, now) for before, now in zip(kept.sums, _checksums(graph), strict=True))
    return kept.content if same else None


def _identity(graph: Graph) -> tuple[Any, ...]:
    """Everything that torch knows about the nodes and tensors of a graph; no references, which would keep it alive."""
    nodes = tuple(
        repr((node.name, node.op, node.target, node.args, node.kwargs, node.meta["operation"]))
        for node in graph.graph.nodes
    )
    tensors: list[Any] = []
    for name, tensor in graph.tensors().items():
        version = None if tensor.is_inference() else tensor._version  # inference tensors do not count theirs
        memory = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device
        tensors.append((name, id(tensor), version, *memory))
    return graph.input_shape, nodes, tuple(tensors)


def _checksums(graph: Graph) -> tuple[Tensor, ...]:
    """For each device the sums of the (sampled) 64-bit words of its tensors over a table with `_WIDTH` columns.

    Sums of integers, modulo 2**64, are exact on every device. One sum for all tensors: a kernel for each would take
    longer than the reading. The sizes of the tensors, which `_identity` holds, fix where each of them begins.
    """
    words: dict[torch.device, list[Tensor]] = {}
    for tensor in graph.tensors().values():
        content = _bytes(tensor)
        if content.numel() % 8:
            content = nn.functional.pad(content, (0, -content.numel() % 8))
        if content.storage_offset() % 8:
            content = content.clone()  # torch refuses a view as longer words that starts between two of them
        whole = content.view(torch.int64)
        words.setdefault(tensor.device, []).append(whole[::_SAMPLED] if whole.numel() > _LARGE else whole)
    return tuple(map(_sums, map(torch.cat, words.values())))


def _sums(words: Tensor) -> Tensor:
    rows = words.numel() // _WIDTH
    table, rest = words[: rows * _WIDTH], words[rows * _WIDTH :]
    sums = table.view(rows, _WIDTH).sum(dim=0)
    sums[: rest.numel()] += rest
    return sums


def _bytes(tensor: Tensor) -> Tensor:
    """The values of a tensor in row-major order, as bytes; shares its memory where the layout allows it."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)

"""Digests of weights and graphs, and findings that hold only as long as a graph keeps its nodes and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn


def weight_digest(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers of `module`, in the order of their names: names, dtypes, shapes and bytes.

    Device, memory layout and ties between tensors do not matter.
    """
    tensors = chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    return _digest(tensors).hexdigest()


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> hashlib._Hash:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        # The lengths keep two different lists of tensors from being the same bytes.
        head = f"{len(name)} {name} {tensor.dtype} {tuple(tensor.shape)}\n"
        digest.update(head.encode())
        digest.update(_bytes(tensor).cpu().numpy())
    return digest


def _bytes(tensor: Tensor) -> Tensor:
    """The values of a tensor in row-major order, as bytes; shares its memory where the layout allows it."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)

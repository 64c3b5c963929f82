"""One operation on many tensors, in few kernels: networks have many small ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def copy_all(into: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    """Copy each of the sources into its place, whatever their types and layouts."""
    into = list(into)
    if into:
        torch._foreach_copy_(into, list(sources))  # pyright: ignore[reportPrivateImportUsage]


@torch.no_grad()
def move_all(into: Iterable[Tensor], towards: Iterable[Tensor], share: float) -> None:
    """Replace each x by x + share (y - x); whole numbers are copied."""
    pairs = list(zip(into, towards, strict=True))
    moving = [(x, y) for x, y in pairs if x.is_floating_point()]
    if moving:
        torch._foreach_lerp_([x for x, _ in moving], [y for _, y in moving], share)  # pyright: ignore[reportPrivateImportUsage]
    copy_all([x for x, _ in pairs if not x.is_floating_point()], [y for _, y in pairs if not y.is_floating_point()])

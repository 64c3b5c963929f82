"""Functions whose signature in torch is different: here operands come first and every attribute is a keyword."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def layer_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    normalized_shape: Any,
    eps: float,
) -> torch.Tensor:
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def rms_norm(
    input: torch.Tensor, weight: torch.Tensor | None = None, *, normalized_shape: Any, eps: float | None
) -> torch.Tensor:
    return F.rms_norm(input, normalized_shape, weight, eps)


def group_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    num_groups: int,
    eps: float,
) -> torch.Tensor:
    return F.group_norm(input, num_groups, weight, bias, eps)


def einsum(operands: list[torch.Tensor], *, equation: str) -> torch.Tensor:
    return torch.einsum(equation, *operands)


def getitem(input: Any, *, index: Any) -> Any:
    return input[index]


def squeeze(input: torch.Tensor, *, dim: Any = None) -> torch.Tensor:
    return torch.squeeze(input) if dim is None else torch.squeeze(input, dim)


def slice(input: torch.Tensor, *, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> torch.Tensor:
    return torch.ops.aten.slice.Tensor(input, dim, start, end, step)


def tensor_split(input: torch.Tensor, *, indices_or_sections: Any, dim: int = 0) -> tuple[torch.Tensor, ...]:
    return torch.tensor_split(input, indices_or_sections, dim)


def index_select(input: torch.Tensor, index: torch.Tensor, *, dim: int) -> torch.Tensor:
    return torch.index_select(input, dim, index)


def gather(input: torch.Tensor, index: torch.Tensor, *, dim: int) -> torch.Tensor:
    return torch.gather(input, dim, index)


def to(input: torch.Tensor, *, dtype: Any = None, device: Any = None) -> torch.Tensor:
    return input.to(dtype=dtype, device=device)


def interpolate(input: torch.Tensor, **attributes: Any) -> torch.Tensor:
    size = attributes.pop("size")
    return F.interpolate(input, size=list(size) if isinstance(size, tuple) else size, **attributes)


def device(input: torch.Tensor) -> torch.device:
    return input.device


def arange(*, start: Any, end: Any, step: Any, dtype: Any, device: Any) -> torch.Tensor:
    return torch.arange(start, end, step, dtype=dtype, device=device)

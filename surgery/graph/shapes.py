"""Shapes without symbolic algebra: every value is computed twice, for two batch sizes, on tensors that hold no data.

The pair of values is called twins. Equal twins are a constant; a size that differs grows with the batch. So shape
arithmetic, assertions and branches of a model resolve to plain numbers, and the graph works for any batch size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from surgery.graph import functions

_LARGEST_POWER = 4096
"""Bits of a power of whole numbers; sizes of tensors have 63."""
_MOST_PARTS = 10_000
"""Tensors into which one operation may split a tensor: each costs time and memory, even without values."""

BATCHES = (2, 3)
"""Two batch sizes; both are larger than one, because models and broadcasting treat one specially."""

Twins = tuple[Any, Any]
"""A value for each of the two batches: meta tensors, numbers, or containers of them."""


class BatchDependentError(Exception):
    """A branch of the model depends on the number of images."""


def of_input(input_shape: tuple[int, ...], dtype: torch.dtype) -> Twins:
    """The twins of an input of `input_shape` (without the batch)."""
    # Meta tensors run torch's own shape functions without memory or arithmetic, so a large model costs no more than a
    # small one. Symbolic sizes of torch would turn comparisons of sizes into guards, which can fix the batch size.
    first, second = (torch.empty((batch, *input_shape), dtype=dtype, device="meta") for batch in BATCHES)
    return first, second


def of_tensor(tensor: torch.Tensor) -> Twins:
    """The twins of a parameter or buffer: the same for both batches."""
    # With its strides: whether a `view` is allowed depends on them.
    twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return twin, twin


def run(function: Callable[..., Any], args: tuple[Twins, ...], kwargs: dict[str, Twins]) -> Twins:
    """Call `function` once for each batch on the twins of its arguments.

    Raises ValueError for calls that take all time or memory although tensors here hold no data.
    """
    for i in range(len(BATCHES)):
        _check_cost(function, [arg[i] for arg in args], {key: value[i] for key, value in kwargs.items()})
    # The device context sends tensors that the call creates, such as those of `arange`, to the meta device too.
    with torch.no_grad(), torch.device("meta"):
        first, second = (
            function(*[arg[i] for arg in args], **{key: value[i] for key, value in kwargs.items()})
            for i in range(len(BATCHES))
        )
        return first, second


def _check_cost(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse operators that Python carries out on plain values of any size, and splitting into countless parts."""
    match (function, *args):
        case (operator.pow, int(base), int(exponent)) if base.bit_length() * exponent > _LARGEST_POWER:
            raise ValueError(f"a power of whole numbers has more than {_LARGEST_POWER} bits")
        case (operator.mul, (str() | tuple() | list()), _) | (operator.mul, _, (str() | tuple() | list())):
            raise ValueError("a product with a text or a list of numbers is not supported")
        case (torch.unbind | torch.split | torch.chunk | functions.tensor_split, torch.Tensor() as whole):
            count = kwargs.get("chunks", kwargs.get("indices_or_sections"))
            if count is None:
                size = kwargs.get("split_size_or_sections", 1)
                count = whole.shape[kwargs.get("dim", 0)] // max(1, size) if isinstance(size, int) else 0
            if isinstance(count, int) and count > _MOST_PARTS:
                raise ValueError(f"a tensor is split into {count:,} parts; at most {_MOST_PARTS:,} are supported")


def is_constant(twins: Twins) -> bool:
    """True for plain values (no tensors) that are the same for both batches."""
    first, second = twins
    leaves = pytree.tree_leaves(first) + pytree.tree_leaves(second)
    # A device is excluded: here it is "meta", and only the graph knows the device on which it will run.
    return not any(isinstance(leaf, (torch.Tensor, torch.device)) for leaf in leaves) and bool(first == second)


def size_text(first: int, second: int) -> int | str:
    """Write a size that is `first` and `second` for the two batches: a number, `4*N`, `N+1` or `N^2`."""
    if first == second:
        return first
    if is_square(first, second):
        return "N^2" if first == BATCHES[0] ** 2 else f"{first // BATCHES[0] ** 2}*N^2"
    # Two batch sizes determine a line.
    slope, remainder = divmod(second - first, BATCHES[1] - BATCHES[0])
    offset = first - slope * BATCHES[0]
    text = "N" if slope == 1 else f"{slope}*N"
    return text if remainder == 0 and offset == 0 else f"{text}{offset:+d}"


def is_square(first: int, second: int) -> bool:
    """True for sizes that grow with the square of the batch, as in the products of all pairs of images.

    The line through two such sizes is 5k N - 6k, which no network computes otherwise.
    """
    return first > 0 and first * BATCHES[1] ** 2 == second * BATCHES[0] ** 2


def shape(twins: Twins) -> tuple[int | str, ...] | None:
    """The shape of a tensor value with N for the batch, or None for any other value."""
    first, second = twins
    if not isinstance(first, torch.Tensor):
        return None
    return tuple(size_text(a, b) for a, b in zip(first.shape, second.shape, strict=True))


def dtype(twins: Twins) -> torch.dtype | None:
    """The dtype of a tensor value, or None for any other value."""
    return twins[0].dtype if isinstance(twins[0], torch.Tensor) else None

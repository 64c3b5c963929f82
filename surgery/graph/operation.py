"""The definition of an operation, one word of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from surgery.graph import laws

REQUIRED: Any = ...
"""Marks an attribute without a default."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One word of the vocabulary.

    `operands` are the names of the tensor arguments; the last `optional` of them may be absent. `law` says when the
    operation is affine. `reads` counts the leading operands whose values matter; of the others only the shape does
    (`expand_as(input, other)` reads one, `size` none). `view` marks an operation whose result may share memory with
    its first operand, as `reshape` and `dropout` outside training do. `commutes` marks an operation whose two operands
    may be swapped.
    """

    name: str
    function: Callable[..., Any]
    operands: tuple[str, ...]
    optional: int
    attributes: Mapping[str, Any]
    kinds: tuple[str, ...]
    law: laws.Law
    reads: int
    view: bool
    commutes: bool

    @property
    def required_operands(self) -> int:
        return len(self.operands) - self.optional

    @property
    def rank(self) -> int | None:
        """The number of spatial dimensions that the name ends with: 2 for `conv2d`, None for `relu`."""
        return int(self.name[-2]) if self.name[-2:] in ("1d", "2d", "3d") else None


ALIKE = frozenset(("convolution", "pooling", "normalization", "normalized_weights", "reduction", "stochastic"))
"""The kinds in which an attribute means the same for all operations that have it.

In others it does not: the threshold of `softplus` is not that of `threshold`, the repeats of `repeat` are not those of
`repeat_interleave`.
"""


def keeps_attributes(old: Operation, new: Operation) -> bool:
    """True if `new` in the place of `old` has its attributes, as far as a rewrite does not name them.

    The two are the same operation, or have the same main kind, which is one of `ALIKE`.
    """
    return old is new or (old.kinds[:1] == new.kinds[:1] and not ALIKE.isdisjoint(new.kinds[:1]))


def define(
    name: str,
    function: Callable[..., Any],
    operands: str,
    kinds: str,
    law: laws.Law,
    *,
    reads: int | None = None,
    view: bool = False,
    commutes: bool = False,
    **attributes: Any,
) -> Operation:
    """Make an operation from words: an optional operand ends with a question mark, the first kind is the main one.

    The law has no default: an operation whose author forgot it would be certified as affine.
    """
    names = operands.split()
    return Operation(
        name=name,
        function=function,
        operands=tuple(item.rstrip("?") for item in names),
        optional=sum(item.endswith("?") for item in names),
        attributes=MappingProxyType(attributes),
        kinds=tuple(kinds.split()),
        law=law,
        reads=len(names) if reads is None else reads,
        view=view,
        commutes=commutes,
    )

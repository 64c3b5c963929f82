"""When an operation is affine in the network's input: one static law for each operation of the vocabulary.

A law gets the attributes of a call and which of its operands depend on the input. It returns None where the call is
affine in those operands together, else the reason why it is not. It is only called where at least one operand depends
on the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Attributes = Mapping[str, Any]
Law = Callable[[Attributes, Sequence[bool]], str | None]


def affine(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine in all operands together: sums, reshapes, averages, concatenation."""
    return None


def nonlinear(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Never affine in an operand that depends on the input."""
    return "nonlinear function of the input"


def product(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Multilinear: affine while at most one factor depends on the input."""
    # `dependent` counts operands, so a value times itself has two factors, as it should.
    return "product of data-dependent values" if sum(dependent) > 1 else None


def product_and_bias(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """A product of the first two operands plus a third: convolutions and linear layers."""
    # The bias is added, so it may depend on the input even where a factor does.
    return product(attributes, dependent[:2])


def quotient(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine in the numerator."""
    return "division by a data-dependent value" if any(dependent[1:]) else None


def power(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine for the exponent one, where the exponent is written as a number."""
    return None if attributes.get("exponent") == 1 else "power of a data-dependent value"


def batch_norm(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine with fixed statistics; with those of the batch it divides by a standard deviation of its input."""
    # A module without running statistics has this flag in evaluation mode too.
    if attributes["training"]:
        return "batch normalization with the statistics of the batch"
    return "statistics or scale depend on the input" if any(dependent[1:]) else None


def instance_norm(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine only with running statistics."""
    # torch's default is the other way round from batch norm: it uses the statistics of each image, in both modes.
    if attributes["use_input_stats"]:
        return "instance normalization with the statistics of the input"
    return "statistics or scale depend on the input" if any(dependent[1:]) else None


def dropout(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """The identity outside training, random in it."""
    return "random in training mode" if attributes["training"] else None


def cast(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine between floating types; conversion to integers or booleans rounds."""
    # A cast to a narrower floating type rounds as well; like all floating-point arithmetic it counts as exact here.
    dtype = attributes.get("dtype")
    if isinstance(dtype, torch.dtype) and not (dtype.is_floating_point or dtype.is_complex):
        return f"conversion to {dtype} rounds"
    return None


def selection(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """Affine in the operand that is indexed, while the index (last operand) is fixed."""
    # A fixed index is a linear selection of entries. An index computed from the input is a step function of it.
    return "data-dependent index" if dependent[-1] else None


def choice(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """`where(condition, a, b)`: affine while the condition is fixed."""
    # Both branches may depend on the input: a fixed mask selects entries of either, which is affine in the pair.
    return "data-dependent condition" if dependent[0] else None


def fill(attributes: Attributes, dependent: Sequence[bool]) -> str | None:
    """`masked_fill(input, mask, value)`: affine while the mask is fixed."""
    return "data-dependent mask" if dependent[1] else None

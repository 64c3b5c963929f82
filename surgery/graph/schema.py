"""The schema of each operation: what a saved graph may say about a call, checked before torch computes anything.

torch's own checks raise exceptions of many kinds, and some values are computed rather than refused: `operator.pow` on
whole numbers from a file has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.errors import printable
from surgery.graph.builder import UnsupportedError, twins_of
from surgery.graph.operation import Operation

_LARGEST = 2**63 - 1
"""The largest whole number of torch, which exports write as the end of a slice that has none."""
_LONGEST = 100_000
"""The most results of one call, and the most numbers in one attribute."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The values that an attribute may have: in words, and as a test. A node stands for a whole number."""

    words: str
    accepts: Callable[[Any], bool]


def _is_whole(value: Any, least: int = -_LARGEST) -> bool:
    return isinstance(value, fx.Node) or (type(value) is int and least <= value <= _LARGEST)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _are_wholes(value: Any, least: int = -_LARGEST) -> bool:
    """Whether `value` is one whole number or several."""
    several = value if isinstance(value, (tuple, list)) else (value,)
    return len(several) <= _LONGEST and all(_is_whole(item, least) for item in several)


def _is_index(value: Any) -> bool:
    if isinstance(value, slice):
        return all(item is None or _is_whole(item) for item in (value.start, value.stop, value.step))
    if isinstance(value, (tuple, list)):
        return len(value) <= _LONGEST and all(_is_index(item) for item in value)
    return value is None or value is Ellipsis or isinstance(value, bool) or _is_whole(value)


_FLAG = Kind(words="true or false", accepts=lambda value: isinstance(value, bool))
_NUMBER = Kind(words="a number", accepts=_is_number)
_SCALAR = Kind(words="a number, true or false", accepts=lambda value: isinstance(value, bool) or _is_number(value))
_WHOLE = Kind(words="a whole number", accepts=_is_whole)
_COUNT = Kind(words="a whole number of at least 1", accepts=lambda value: _is_whole(value, 1))
_WHOLES = Kind(words="whole numbers", accepts=_are_wholes)
_SIZES = Kind(words="whole numbers of at least -1", accepts=lambda value: _are_wholes(value, -1))
_COUNTS = Kind(words="whole numbers of at least 1", accepts=lambda value: _are_wholes(value, 1))
_LENGTHS = Kind(words="whole numbers of at least 0", accepts=lambda value: _are_wholes(value, 0))
_NUMBERS = Kind(
    words="numbers",
    accepts=lambda value: all(map(_is_number, value if isinstance(value, (tuple, list)) else (value,))),
)
_TARGET = Kind(
    words="whole numbers of at least 0, or none to keep a size",
    accepts=lambda value: all(
        item is None or _is_whole(item, 0) for item in (value if isinstance(value, (tuple, list)) else (value,))
    ),
)
_TEXT = Kind(words="a text", accepts=lambda value: isinstance(value, str) and len(value) <= 1000)
_DTYPE = Kind(words="a dtype", accepts=lambda value: isinstance(value, torch.dtype))
_DEVICE = Kind(words="a device", accepts=lambda value: isinstance(value, (torch.device, fx.Node)))
_LAYOUT = Kind(words="a memory format", accepts=lambda value: isinstance(value, torch.memory_format))


def _either(words: str, *kinds: Kind) -> Kind:
    return Kind(words=words, accepts=lambda value: any(kind.accepts(value) for kind in kinds))


_BY_NAME: Mapping[str, Kind] = {
    **dict.fromkeys(
        ("antialias", "align_corners", "ceil_mode", "count_include_pad", "enable_gqa", "is_causal", "keepdim"), _FLAG
    ),
    **dict.fromkeys(("training", "use_input_stats"), _FLAG),
    **dict.fromkeys(
        ("alpha", "beta", "correction", "dropout_p", "eps", "k", "lambd", "lower", "max", "max_val", "min", "min_val"),
        _NUMBER,
    ),
    **dict.fromkeys(("momentum", "negative_slope", "norm_type", "ord", "scale", "threshold", "upper"), _NUMBER),
    **dict.fromkeys(("start", "end", "step"), _NUMBER),
    **dict.fromkeys(("fill_value", "value"), _SCALAR),
    **dict.fromkeys(("chunks", "downscale_factor", "groups", "num_groups", "upscale_factor"), _COUNT),
    **dict.fromkeys(("dim0", "dim1", "dim2", "dimension", "diagonal", "divisor_override", "end_dim"), _WHOLE),
    **dict.fromkeys(("length", "offset", "padding_idx", "start_dim"), _WHOLE),
    **dict.fromkeys(("dim", "dims", "pad", "shifts"), _WHOLES),
    **dict.fromkeys(("dilation", "kernel_size", "stride"), _COUNTS),
    **dict.fromkeys(("normalized_shape", "output_padding", "repeats", "split_size_or_sections"), _LENGTHS),
    **dict.fromkeys(("indices_or_sections",), _WHOLES),
    **dict.fromkeys(("shape", "size", "sizes"), _SIZES),
    "approximate": _TEXT,
    "equation": _TEXT,
    "mode": _TEXT,
    "padding": _either("whole numbers of at least 0, or same or valid", _LENGTHS, _TEXT),
    "p": _either("a number or the name of a norm", _NUMBER, _TEXT),
    "output_size": _TARGET,
    "scale_factor": _NUMBERS,
    "index": Kind(words="an index: whole numbers, slices, none", accepts=_is_index),
    "dtype": _DTYPE,
    "device": _DEVICE,
    "memory_format": _LAYOUT,
}


def kind_of(attribute: str) -> Kind:
    """The values that an attribute may have, besides its default."""
    return _BY_NAME[attribute]


def check_call(operation: Operation, operands: Sequence[Any], attributes: Mapping[str, Any]) -> None:
    """Raise UnsupportedError for operands and attributes that no call of `operation` in a saved graph has."""
    for key, value in attributes.items():
        if key not in operation.attributes:
            continue  # the builder names it
        default = operation.attributes[key]
        if (
            value is not None
            and not kind_of(key).accepts(value)
            and not (type(value), value) == (type(default), default)
        ):
            raise UnsupportedError(
                f"{operation.name}: {key} should be {kind_of(key).words}, got {printable(repr(value), 80)}"
            )
    values = [twin for twin, _ in map(twins_of, operands)]
    _check_operands(operation, values)
    largest = max((size for value in values if isinstance(value, torch.Tensor) for size in value.shape), default=0)
    results: Any = 0
    if operation.name == "unbind":
        results = largest
    elif operation.name == "split":
        length = attributes.get("split_size_or_sections")
        results = largest // length if isinstance(length, int) and length > 0 else 0
    elif operation.name in ("chunk", "tensor_split"):
        results = attributes.get("chunks", attributes.get("indices_or_sections"))
    if isinstance(results, int) and results > _LONGEST:
        raise UnsupportedError(f"{operation.name} into up to {results} tensors")


def _check_operands(operation: Operation, values: Sequence[Any]) -> None:
    """Bound the cost of a call on the values of its operands: meta tensors, numbers, or lists of them."""
    for value in values:
        plain = isinstance(value, (torch.Tensor, torch.Size, torch.device, bool, type(None))) or _is_number(value)
        if not plain and not (isinstance(value, (tuple, list)) and len(value) <= _LONGEST):
            raise UnsupportedError(f"{operation.name} of {printable(repr(value), 80)}")
    if any(isinstance(value, torch.Tensor) for value in values):
        return
    # Python computes on whole numbers without any bound, and repeats a list as often as a number says.
    wholes = [abs(value) for value in values if isinstance(value, int)]
    longest = max(wholes, default=0)
    bits = wholes[0].bit_length() * wholes[1] if operation.name == "pow" and len(wholes) == 2 else 0
    repeats = any(isinstance(value, (tuple, list)) for value in values) and operation.name == "mul"
    if bits > 63 or longest > (_LONGEST if repeats else _LARGEST):
        raise UnsupportedError(f"{operation.name} of the whole number {printable(longest, 80)}")

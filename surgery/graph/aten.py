"""Readers for ATen overloads whose schema differs from the vocabulary, those of decomposed programs above all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from surgery.graph.builder import Builder
from surgery.graph.vocabulary import OPERATIONS

AtenReader = Callable[[Builder, dict[str, Any]], Any]
"""Reads a call from its arguments by schema name."""


def _convolution(builder: Builder, named: dict[str, Any]) -> Any:
    """The one convolution of decomposed programs as `conv1d`, `conv2d`, ... or `conv_transpose2d`."""
    # One overload for all ranks and both directions; the length of the stride is the only trace of the rank.
    rank = len(named["stride"])
    name = f"conv_transpose{rank}d" if named["transposed"] else f"conv{rank}d"
    attributes = {key: named[key] for key in OPERATIONS[name].attributes}
    return builder.call(name, [named["input"], named["weight"], named["bias"]], attributes)


def _batch_norm(builder: Builder, named: dict[str, Any]) -> Any:
    """All of ATen's forms; those without statistics have no such arguments."""
    operands = [named.get(key) for key in ("input", "running_mean", "running_var", "weight", "bias")]
    attributes = {"training": named.get("training", False), "momentum": named["momentum"], "eps": named["eps"]}
    return builder.call("batch_norm", operands, attributes)


def _first_output(read: AtenReader) -> AtenReader:
    """Decomposed programs return saved statistics after the result; inference reads only the result."""
    return lambda builder, named: (read(builder, named), None, None)


def _native_layer_norm(builder: Builder, named: dict[str, Any]) -> Any:
    operands = [named["input"], named["weight"], named["bias"]]
    attributes = {"normalized_shape": named["normalized_shape"], "eps": named["eps"]}
    return builder.call("layer_norm", operands, attributes)


def _upsample(mode: str) -> AtenReader:
    def read(builder: Builder, named: dict[str, Any]) -> Any:
        # The overloads with and without `.vec` differ in names: `self` or `input`, and scales that may be missing.
        attributes = {"size": named.get("output_size"), "scale_factor": named.get("scale_factors"), "mode": mode}
        if "align_corners" in named:
            attributes["align_corners"] = named["align_corners"]
        return builder.call("interpolate", [named.get("input", named.get("self"))], attributes)

    return read


def _max_pool_with_indices(builder: Builder, named: dict[str, Any]) -> Any:
    attributes = {key: value for key, value in named.items() if key != "self"}
    return (builder.call("max_pool2d", [named["self"]], attributes), None)


ATEN_READERS: Mapping[str, AtenReader] = {
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _first_output(_batch_norm),
    "_native_batch_norm_legit": _first_output(_batch_norm),
    "native_layer_norm": _first_output(_native_layer_norm),
    # ATen has the weight first, `F.embedding` the indices.
    "embedding": lambda builder, named: builder.call("embedding", [named["indices"], named["weight"]], {}),
    "constant_pad_nd": lambda builder, named: builder.call(
        "pad", [named["self"]], {"pad": named["pad"], "value": named.get("value")}
    ),
    "upsample_nearest2d": _upsample("nearest"),
    "upsample_bilinear2d": _upsample("bilinear"),
    "upsample_bicubic2d": _upsample("bicubic"),
    "max_pool2d_with_indices": _max_pool_with_indices,
}
"""Readers by the name of the overload packet."""

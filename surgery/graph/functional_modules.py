"""Functional forms of modules whose own forward branches on its input or hides its arithmetic in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from surgery.graph.builder import UnsupportedError


def _batch_norm(m: Any, x: Any) -> Any:
    # The module's forward checks the rank of its input and counts batches in a buffer; neither is arithmetic.
    # In evaluation mode the statistics of the batch are used only where the module tracks none.
    batch_statistics = m.running_mean is None and m.running_var is None
    return F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, batch_statistics, m.momentum or 0.0, m.eps)


def _instance_norm(m: Any, x: Any) -> Any:
    # The module's forward branches on the rank to accept inputs without a batch, which cannot occur here.
    return F.instance_norm(
        x, m.running_mean, m.running_var, m.weight, m.bias, not m.track_running_stats, m.momentum or 0.0, m.eps
    )


def _multi_head_attention(
    m: Any,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """`nn.MultiheadAttention` written out: three projections, scaled dot-product attention, one projection."""
    # torch hides all of this in `multi_head_attention_forward`, or in one fused kernel on the fast path. Written out, a
    # rule can replace the attention weights alone, and a certificate sees which factor depends on the input.
    if key_padding_mask is not None or m.bias_k is not None or m.add_zero_attn or attn_mask is not None:
        raise UnsupportedError("nn.MultiheadAttention with masks, bias_k or add_zero_attn is not supported")
    # Equal widths are stored as one stacked weight, different widths as three; the bias is stacked in both cases.
    if m._qkv_same_embed_dim:
        weights = m.in_proj_weight.chunk(3)
    else:
        weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
    biases = (None, None, None) if m.in_proj_bias is None else m.in_proj_bias.chunk(3)
    heads: list[Any] = []
    # By index: the chunks are one recorded value, and a recorder without values cannot iterate over it.
    for index, item in enumerate((query, key, value)):
        sequence = item if m.batch_first else item.transpose(0, 1)
        projected = F.linear(sequence, weights[index], biases[index])
        heads.append(projected.unflatten(-1, (m.num_heads, -1)).transpose(1, 2))  # (batch, heads, length, features)
    queries, keys, values = heads
    mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=is_causal)
    out = mixed.transpose(1, 2).flatten(2)
    out = F.linear(out, m.out_proj.weight, m.out_proj.bias)
    out = out if m.batch_first else out.transpose(0, 1)
    if not need_weights:
        return out, None
    # The fused kernel does not return its weights; where nobody reads them, these nodes are removed as dead code.
    weights = torch.softmax(torch.matmul(queries * m.head_dim**-0.5, keys.transpose(-2, -1)), dim=-1)
    return out, weights.mean(dim=1) if average_attn_weights else weights


FUNCTIONAL_FORMS: Mapping[type[nn.Module], Callable[..., Any]] = {
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.MultiheadAttention: _multi_head_attention,
}
"""The functions that are recorded in place of a module's forward, by the exact class of the module."""

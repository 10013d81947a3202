"""`nn.MultiheadAttention` with the attention written out: softmax(q kT / sqrt(d)) v, keyed dropout inside.

The fused kernels that the layer calls have no forward-mode and no second derivative on the CPU,
and draw their dropout from the global generator.
Vaswani et al., "Attention is all you need", 2017.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import noise
from .registry import Draw, register_layer


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    draw: Draw | None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(q kT scale + bias) v and its weights, which are dropped out when there is a draw.

    Args:
        q: (..., targets, features); k: (..., sources, features); v: (..., sources, values).
        bias: added to the scores; broadcasts with (..., targets, sources).
        draw: the key and rate of the weights' dropout, or None.
        scale: of the scores. Default: 1 / sqrt(features).

    Returns:
        The result (..., targets, values), and the weights (..., targets, sources).

    >>> from funcreg import random
    >>> q = random.normal(random.key(0), (2, 3, 4))
    >>> out, weights = scaled_dot_product_attention(q, q, q, None, None)
    >>> torch.allclose(out, F.scaled_dot_product_attention(q, q, q), atol=1e-6)
    True
    """
    scores = (q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)) @ k.transpose(-2, -1)
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    if draw is not None:
        weights = noise.dropout(weights, draw.rate, key=draw.key)
    return weights @ v, weights


def _attention(
    layer: Any,
    draw: Draw | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    batched = query.ndim == 3
    if not batched:
        query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    elif not layer.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    q, k, v = _project(layer, query, key, value)
    bias = _bias(attn_mask, key_padding_mask, query, layer.num_heads)
    if layer.bias_k is not None:
        k = torch.cat((k, layer.bias_k.expand(k.shape[0], -1, -1)), dim=1)
        v = torch.cat((v, layer.bias_v.expand(v.shape[0], -1, -1)), dim=1)
    if layer.add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    if bias is not None:
        bias = F.pad(bias, (0, k.shape[1] - bias.shape[-1]))
    q, k, v = (x.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    out, weights = scaled_dot_product_attention(q, k, v, bias, draw)
    out = layer.out_proj(out.transpose(1, 2).flatten(-2))
    if average_attn_weights:
        weights = weights.mean(dim=1)
    if not batched:
        out, weights = out.squeeze(0), weights.squeeze(0)
    elif not layer.batch_first:
        out = out.transpose(0, 1)
    return out, weights if need_weights else None


def _project(layer: Any, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values, (batch, length, features) each."""
    if layer.in_proj_weight is None:
        weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    elif query is key and key is value:
        return F.linear(query, layer.in_proj_weight, layer.in_proj_bias).chunk(3, dim=-1)
    else:
        weights = layer.in_proj_weight.chunk(3)
    biases = (None, None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))


def _bias(attn_mask: Tensor | None, padding: Tensor | None, query: Tensor, heads: int) -> Tensor | None:
    """Both masks as one number to add to the scores, broadcast to (batch, heads, targets, sources)."""
    bias = None
    if attn_mask is not None:
        bias = _additive(attn_mask, query.dtype)
        if bias.ndim == 3:
            bias = bias.unflatten(0, (query.shape[0], heads))
    if padding is not None:
        padded = _additive(padding, query.dtype)[:, None, None, :]
        bias = padded if bias is None else bias + padded
    return bias


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as torch's layer reads it: True hides, a number is added."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)


register_layer(nn.MultiheadAttention, _attention, rate="dropout")

"""`nn.MultiheadAttention` with the attention written out: softmax(q kT / sqrt(d)) v, keyed dropout inside.

The fused kernels that the layer calls have no forward-mode and no second derivative on the CPU,
and draw their dropout from the global generator.
Vaswani et al., "Attention is all you need", 2017.
"""

import math
from collections.abc import Callable
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
    *,
    all_see: bool = False,
) -> tuple[Tensor, Tensor]:
    """softmax(q kT scale + bias) v and its weights, which are dropped out when there is a draw.

    Args:
        q: (..., targets, features); k: (..., sources, features); v: (..., sources, values).
        bias: added to the scores; broadcasts with (..., targets, sources).
        draw: the key and rate of the weights' dropout, or None.
        scale: of the scores. Default: 1 / sqrt(features).
        all_see: whether the bias leaves every target a source to see, as that of causal attention does.

    Returns:
        The result (..., targets, values), and the weights (..., targets, sources).

    >>> from funcreg import random
    >>> q = random.normal(random.key(0), (2, 3, 4))
    >>> out, weights = scaled_dot_product_attention(q, q, q, None, None)
    >>> torch.allclose(out, F.scaled_dot_product_attention(q, q, q), atol=1e-6)
    True
    """
    scores = (q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)) @ k.transpose(-2, -1)
    scores = scores if bias is None else scores + bias
    weights = _softmax(scores) if bias is None or all_see else _masked_softmax(scores)
    if draw is not None:
        weights = noise.dropout(weights, draw.rate, key=draw.key)
    return weights @ v, weights


def _softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1)


def _masked_softmax(scores: Tensor) -> Tensor:
    """The softmax, of a row whose every score is -inf zeros: no key to see, nothing seen, no gradient."""
    nothing = (scores == -math.inf).all(dim=-1, keepdim=True)
    return _softmax(scores.masked_fill(nothing, 0.0)).masked_fill(nothing, 0.0)


def multi_head_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    projections: Tensor | tuple[Tensor, Tensor, Tensor],
    projection_bias: Tensor | None,
    out: Callable[[Tensor], Tensor],
    *,
    heads: int,
    draw: Draw | None,
    bias_k: Tensor | None = None,
    bias_v: Tensor | None = None,
    add_zero_attn: bool = False,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`F.multi_head_attention_forward` with the attention written out.

    Args:
        queries, keys, values: (length, batch, features), or without the batch; (batch, length, features) if
            batch_first.
        projections: of queries, keys and values: one weight for the three, or one each.
        projection_bias: of the three, or None.
        out: the last projection.
        heads, bias_k, bias_v, add_zero_attn, key_padding_mask, attn_mask, need_weights, average_attn_weights:
            as torch's.
        draw: the key and rate of the weights' dropout, or None.

    Returns:
        The output, and the weights or None.

    >>> layer, x = nn.MultiheadAttention(4, 2), torch.ones(3, 1, 4)
    >>> weights = layer.in_proj_weight, layer.in_proj_bias, layer.out_proj
    >>> y, _ = multi_head_attention(x, x, x, *weights, heads=2, draw=None)
    >>> torch.allclose(y, layer(x, x, x)[0], atol=1e-6)
    True
    """
    same = queries is keys and keys is values
    batched = queries.ndim == 3
    if not batched:
        queries, keys, values = (x.unsqueeze(0) for x in (queries, keys, values))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    elif not batch_first:
        queries, keys, values = (x.transpose(0, 1) for x in (queries, keys, values))
    q, k, v = _project(queries, keys, values, projections, projection_bias, same=same)
    bias = _bias(attn_mask, key_padding_mask, queries, heads)
    if bias_k is not None and bias_v is not None:
        k = torch.cat((k, bias_k.expand(k.shape[0], -1, -1)), dim=1)
        v = torch.cat((v, bias_v.expand(v.shape[0], -1, -1)), dim=1)
    if add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    if bias is not None:
        bias = F.pad(bias, (0, k.shape[1] - bias.shape[-1]))
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    y, weights = scaled_dot_product_attention(q, k, v, bias, draw)
    y = out(y.transpose(1, 2).flatten(-2))
    if average_attn_weights:
        weights = weights.mean(dim=1)
    if not batched:
        y, weights = y.squeeze(0), weights.squeeze(0)
    elif not batch_first:
        y = y.transpose(0, 1)
    return y, weights if need_weights else None


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
    separate = layer.in_proj_weight is None
    return multi_head_attention(
        query,
        key,
        value,
        (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight) if separate else layer.in_proj_weight,
        layer.in_proj_bias,
        layer.out_proj,
        heads=layer.num_heads,
        draw=draw,
        bias_k=layer.bias_k,
        bias_v=layer.bias_v,
        add_zero_attn=layer.add_zero_attn,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        need_weights=need_weights,
        average_attn_weights=average_attn_weights,
        batch_first=layer.batch_first,
    )


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: Tensor | tuple[Tensor, ...],
    bias: Tensor | None,
    *,
    same: bool,
) -> tuple[Tensor, ...]:
    """Queries, keys and values, (batch, length, features) each."""
    if isinstance(weights, Tensor):
        if same:
            return F.linear(query, weights, bias).chunk(3, dim=-1)
        weights = weights.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
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

"""Noise with a rate, attention and recurrence that a forward calls as functions: what `Keyed` puts in their place."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import noise
from ..._functorch import needs_formulas
from ..attention import multi_head_attention, scaled_dot_product_attention
from ..layers import channel_dropout
from ..recurrent import recurrence
from .mode import Keyed, replaces


def _dropout(function: Callable[..., Tensor], *, writes: bool = False, train: str = "training") -> Callable[..., Any]:
    """A function of dropout's family: (input, p, training, inplace); an underscore at its end writes in place."""

    def replacement(keyed: Keyed, called: Any, input: Tensor, *args: Any, **settings: Any) -> Tensor:
        given = dict(zip(("p", train, "inplace"), args, strict=False)) | settings
        training = given.get(train, True)
        drawn = keyed.draw(called.__name__, given.get("p", 0.5)) if training else None
        if drawn is None:
            return input
        noisy = function(input, drawn.rate, key=drawn.key)
        return keyed.into(input, noisy) if writes or given.get("inplace", False) else noisy

    return replacement


_FAMILY = {
    "dropout": noise.dropout,
    "alpha_dropout": noise.alpha_dropout,
    "feature_dropout": channel_dropout(3),
    "feature_alpha_dropout": noise.feature_alpha_dropout,
}
for _name, _noise in _FAMILY.items():
    replaces(getattr(torch, _name))(_dropout(_noise, train="train"))
    replaces(getattr(torch, f"{_name}_"))(_dropout(_noise, writes=True, train="train"))
replaces(F.dropout)(_dropout(noise.dropout))
replaces(F.alpha_dropout)(_dropout(noise.alpha_dropout))
replaces(F.feature_alpha_dropout)(_dropout(noise.feature_alpha_dropout))
replaces(F.dropout1d)(_dropout(channel_dropout(2)))
replaces(F.dropout2d)(_dropout(channel_dropout(3)))
replaces(F.dropout3d)(_dropout(channel_dropout(4)))


@replaces(getattr(torch, "native_dropout", None))
def _native_dropout(keyed: Keyed, function: Any, input: Tensor, p: float, train: bool | None = True) -> Any:
    drawn = keyed.draw("native_dropout", p) if train is not False else None
    if drawn is None:
        return input, torch.ones_like(input, dtype=torch.bool)
    kept = noise.dropout(torch.ones_like(input), drawn.rate, key=drawn.key)
    return input * kept, kept != 0


def _rrelu(writes: bool) -> Callable[..., Any]:
    def replacement(keyed: Keyed, function: Any, input: Tensor, *args: Any, **settings: Any) -> Tensor:
        given = dict(zip(("lower", "upper", "training", "inplace"), args, strict=False)) | settings
        lower, upper = given.get("lower", 1 / 8), given.get("upper", 1 / 3)
        if not given.get("training", False) or (keyed.key is None and not keyed.train):
            return F.leaky_relu(input, (lower + upper) / 2)
        result = noise.rrelu(input, lower, upper, key=keyed.next_key("rrelu"))
        return keyed.into(input, result) if writes or given.get("inplace", False) else result

    return replacement


replaces(F.rrelu, torch.rrelu)(_rrelu(False))
replaces(torch.rrelu_)(_rrelu(True))


@replaces(F.scaled_dot_product_attention)
def _attention(
    keyed: Keyed,
    function: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    # An attention that never drops anything out is not to begin because all noise is given a rate.
    drawn = keyed.draw("scaled_dot_product_attention", dropout_p, wakes=False)
    if drawn is None:
        keyed.saw("scaled_dot_product_attention", "formula", True)
    if drawn is None and not needs_formulas():
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        attn_mask = torch.full(shape, -math.inf, dtype=query.dtype, device=query.device).triu(1)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:  # here True means: may be seen
        seen = torch.zeros(attn_mask.shape, dtype=query.dtype, device=query.device)
        attn_mask = seen.masked_fill(~attn_mask, -math.inf)
    return scaled_dot_product_attention(query, key, value, attn_mask, drawn, scale, all_see=is_causal)[0]


_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


@replaces(F.multi_head_attention_forward)
def _multi_head_attention(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Any:
    given = _MULTI_HEAD.bind(*args, **settings)
    given.apply_defaults()
    call = given.arguments
    drawn = keyed.draw("multi_head_attention_forward", call["dropout_p"], wakes=False) if call["training"] else None
    keyed.saw("multi_head_attention_forward", "formula", True)
    if drawn is None and not needs_formulas():
        call["training"] = False
        return function(*given.args, **given.kwargs)
    if call["static_k"] is not None or call["static_v"] is not None:
        keyed.cannot("multi_head_attention_forward", "with static keys or values")
    separate = call["use_separate_proj_weight"]
    projections = tuple(call[f"{each}_proj_weight"] for each in "qkv") if separate else call["in_proj_weight"]
    return multi_head_attention(
        call["query"],
        call["key"],
        call["value"],
        projections,
        call["in_proj_bias"],
        lambda x: F.linear(x, call["out_proj_weight"], call["out_proj_bias"]),
        heads=call["num_heads"],
        draw=drawn,
        bias_k=call["bias_k"],
        bias_v=call["bias_v"],
        add_zero_attn=call["add_zero_attn"],
        key_padding_mask=call["key_padding_mask"],
        attn_mask=call["attn_mask"],
        need_weights=call["need_weights"],
        average_attn_weights=call["average_attn_weights"],
    )


def _recurrence(mode: str) -> Callable[..., Any]:
    """`torch.lstm` and its kin: (input, hx, weights, bias, layers, dropout, train, bidirectional, batch_first),
    and of packed sequences (data, batch_sizes, hx, weights, bias, layers, dropout, train, bidirectional)."""

    def replacement(keyed: Keyed, function: Any, *args: Any) -> Any:
        packed = isinstance(args[3], list | tuple)
        if packed:
            data, sizes, hx, weights, bias, layers, rate, train, both = args
            batch_first = False
        else:
            data, hx, weights, bias, layers, rate, train, both, batch_first = args
            sizes = None
        drawn = keyed.draw(function.__name__, rate) if train and layers > 1 else None
        keyed.saw(function.__name__, "formula", True)
        if drawn is None and not (needs_formulas() and keyed.unrolled):
            off = (data, sizes, hx) if packed else (data, hx)
            last = () if packed else (batch_first,)
            return function(*off, weights, bias, layers, 0.0, train, both, *last)
        x = data.transpose(0, 1) if batch_first else data
        out, ends = recurrence(
            mode,
            x,
            sizes,
            tuple(hx) if mode == "LSTM" else (hx,),
            list(weights),
            layers=layers,
            directions=2 if both else 1,
            draw=drawn,
            bias=bias,
            train=train,
            unrolled=keyed.unrolled,
        )
        return (out.transpose(0, 1) if batch_first else out, *ends)

    return replacement


for _name, _mode in (("lstm", "LSTM"), ("gru", "GRU"), ("rnn_tanh", "RNN_TANH"), ("rnn_relu", "RNN_RELU")):
    replaces(getattr(torch, _name))(_recurrence(_mode))

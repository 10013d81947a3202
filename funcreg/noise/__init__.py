"""Noise that regularizes: `(x, rate, *, key) -> x`, on exactly when it is called.

What zeroes is inverted: what is kept is scaled up by `1 / (1 - rate)`, so that the mean over
keys is the input and evaluation needs no function at all. A mask compares float32 uniforms
with the rate, whatever the dtype of x, so every dtype sees the same one. A rate of 0 gives
the input and a rate of 1 gives zeros, exactly and with finite gradients; an infinite input
that is dropped gives NaN, as in `F.dropout`. Three are otherwise and scale nothing:
`token_dropout` shortens, `layer_drop` replaces, `rrelu` has slopes in place of a rate.

A rate may be a tensor of shape (), batched under `vmap`. Masks are steps in it, so the
gradient that reaches it is that of the scaling alone.

    elements.py    dropout, alpha_dropout, gaussian_dropout, gaussian_noise, rrelu
    structured.py  channels, blocks, tokens, paths, layers
    parameters.py  drop_connect
    shared.py      what they share
"""

from .elements import alpha_dropout, dropout, gaussian_dropout, gaussian_noise, rrelu
from .parameters import drop_connect
from .structured import (
    channel_dropout,
    drop_block,
    drop_path,
    feature_alpha_dropout,
    layer_drop,
    token_dropout,
)

__all__ = [
    "alpha_dropout",
    "channel_dropout",
    "drop_block",
    "drop_connect",
    "drop_path",
    "dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "gaussian_noise",
    "layer_drop",
    "rrelu",
    "token_dropout",
]

"""Losses: `(predictions, targets) -> scalar`, every setting a number that may be batched under `vmap`.

An example is a row of logits, a signal of `correlation` and `spectral_l2`, and everything along
the first axis elsewhere. `reduction` is "mean" or "sum" over examples, or "none" for one value each.
16-bit inputs are computed and given back in float32.

    classification.py  cross-entropies, divergence, accuracy
    regression.py      mse, mae; a Gaussian head; correlation and spectral distance of signals
    reductions.py      what they share
"""

from .classification import accuracy, binary_cross_entropy, cross_entropy, kl_divergence
from .regression import correlation, gaussian_nll, mae, mse, spectral_l2

__all__ = [
    "accuracy",
    "binary_cross_entropy",
    "correlation",
    "cross_entropy",
    "gaussian_nll",
    "kl_divergence",
    "mae",
    "mse",
    "spectral_l2",
]

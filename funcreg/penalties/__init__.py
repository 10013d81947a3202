"""Penalties: `(params, strength, *, mask=None) -> scalar`, to be added to a loss; and those of a function.

One convention everywhere: no 1/2, summed over weights, averaged over examples. So `l2`'s gradient
is that of a `weight_decay` of `2 * strength`. 16-bit tensors are summed in float32, and give float32.

    weights.py    l1, l2, elastic_net, group_lasso, l2_distance: of each number, or of groups of them
    matrices.py   orthogonality, spectral: of the singular values of each weight matrix
    functions.py  jacobian, gradient_penalty, confidence: of what a model does with its inputs
    core.py       what they share
"""

from .functions import confidence, gradient_penalty, interpolate, jacobian
from .matrices import orthogonality, spectral
from .weights import elastic_net, group_lasso, l1, l2, l2_distance

__all__ = [
    "confidence",
    "elastic_net",
    "gradient_penalty",
    "group_lasso",
    "interpolate",
    "jacobian",
    "l1",
    "l2",
    "l2_distance",
    "orthogonality",
    "spectral",
]

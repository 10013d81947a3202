"""Adversarial inputs, `(loss_fn, x, epsilon) -> x`, near x and with a higher loss; and smoothness against them.

    loss_fn(x) -> a loss of shape (), or one for each example, (N,)

It closes over the parameters and the targets, and each example's loss depends on that example alone:
`lambda x: losses.cross_entropy(model.apply(params, state, x)[0], y)`. What the inputs are normalised
by belongs into it too, so that epsilon and [low, high] are in the inputs' own unit.

    attacks.py     fgsm, pgd: the inputs
    smoothness.py  vat: how much the predictions change within epsilon, which needs no targets
    balls.py       what is within epsilon
"""

from .attacks import Bound, LossFn, fgsm, pgd
from .smoothness import vat

__all__ = ["Bound", "LossFn", "fgsm", "pgd", "vat"]

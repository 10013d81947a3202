"""Transforms of gradients that remember nothing: decay, freezing."""

import torch

from .. import _checks, tree
from . import core
from .core import Number, Transform


def add_decayed_weights(decay: Number, *, mask: tree.Mask | None = None) -> Transform:
    """Add decay * w to the gradient.

    Before `scale_by_adam` it is Adam's coupled L2 decay, after it the decoupled decay of AdamW
    (Loshchilov and Hutter 2019, arXiv:1711.05101); there the learning rate multiplies it.

    Args:
        decay: at least 0. It equals the gradient of decay/2 * sum(w**2): half of `penalties.l2`'s strength scale.
        mask: (name, leaf) -> bool, which leaves decay; `fr.tree.is_weight` leaves out biases. Default: all.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: for a negative number; from init, for a mask that picks no leaf.

    >>> updates, _ = add_decayed_weights(0.5).update({"w": torch.zeros(2)}, (), {"w": torch.ones(2)})
    >>> updates
    {'w': tensor([0.5000, 0.5000])}
    """
    decay = _checks.check_setting("decay", decay)
    core.check_mask(mask)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        if core.is_zero(decay):
            return grads
        core.check_given(params)
        scalar = core.Scalars(decay)
        if mask is None:
            return tree.map(lambda g, w: core.add_scaled(g, w, scalar), grads, params)
        picks = mask
        return tree.map_named(lambda n, w, g: core.add_scaled(g, w, scalar) if picks(n, w) else g, params, grads)

    return core.stateless(update, core.picks_some(mask))


def freeze(mask: tree.Mask | None = None) -> Transform:
    """Zero the updates of some leaves; last in a chain, it also keeps decay and momentum from them.

    Args:
        mask: (name, leaf) -> bool, which leaves are frozen. Default: all, for a group of `partition`.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: from init, for a mask that picks no leaf.

    >>> transform, params = freeze(lambda name, leaf: name == "a"), {"a": torch.ones(1), "b": torch.ones(1)}
    >>> updates, _ = transform.update(params, transform.init(params), params)
    >>> updates
    {'a': tensor([0.]), 'b': tensor([1.])}
    """
    core.check_mask(mask)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        if mask is None:
            return tree.zeros_like(grads)
        core.check_given(params)
        picks = mask
        return tree.map_named(lambda n, w, g: torch.zeros_like(g) if picks(n, w) else g, params, grads)

    return core.stateless(update, core.picks_some(mask))

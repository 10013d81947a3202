"""Gradients made smaller: together, number by number, unit by unit, or example by example."""

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.norms import length, length_of, over_norm
from ..tree.structure import entry
from ..tree.values import in_own_precision, widest
from . import core
from .core import Number, Transform


def clip_by_global_norm(max_norm: Number) -> Transform:
    """Shrink gradients whose norm exceeds a maximum: g * min(1, max_norm / (||g|| + 1e-6)).

    The norm is of all leaves together. As `torch.nn.utils.clip_grad_norm_`; Pascanu et al. 2013
    (arXiv:1211.5063). Where it is beyond float32 the result is NaN, not zeros.

    Args:
        max_norm: at least 0.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: for a negative number.

    >>> updates, _ = clip_by_global_norm(1.0).update({"w": torch.tensor([3.0, 4.0])}, (), None)
    >>> updates
    {'w': tensor([0.6000, 0.8000])}
    """
    max_norm = _checks.check_setting("max_norm", max_norm)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        factor = core.Scalars(over_norm(max_norm, tree.norm(grads) + 1e-6).clamp(max=1.0))
        return tree.map(lambda g: g * factor.like(g)[0], grads)

    return core.stateless(update)


def clip_by_value(limit: Number) -> Transform:
    """Clamp every number of the gradients to [-limit, limit], as `torch.nn.utils.clip_grad_value_`.

    It changes their direction, which `clip_by_global_norm` does not; NaN stays NaN.

    Args:
        limit: at least 0.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: for a negative number.

    >>> updates, _ = clip_by_value(1.0).update({"w": torch.tensor([0.5, -4.0])}, (), None)
    >>> updates
    {'w': tensor([ 0.5000, -1.0000])}
    """
    limit = _checks.check_setting("limit", limit)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        bounds = core.Scalars(-limit, limit)
        return tree.map(lambda g: g.clamp(*bounds.like(g)), grads)

    return core.stateless(update)


def adaptive_clip(ratio: Number = 0.01, *, eps: Number = 1e-3, mask: tree.Mask | None = None) -> Transform:
    """Shrink each unit's gradient to at most `ratio * max(||w||, eps)`, w the unit's own weights.

    A unit is what one output sees: the slices of axis 0, norms over all other axes; a leaf of one
    axis or none is one unit.

    Args:
        ratio: at least 0.
        eps: at least 0; keeps units of zero weights trainable.
        mask: (name, leaf) -> bool, which leaves are clipped; the paper leaves out the last layer. Default: all.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: for a negative number; from init, for a mask that picks no leaf.

    >>> weights, grads = {"w": torch.tensor([[3.0, 4.0], [0.0, 0.0]])}, {"w": torch.ones(2, 2)}
    >>> updates, _ = adaptive_clip(0.1, eps=1.0).update(grads, (), weights)
    >>> updates
    {'w': tensor([[0.3536, 0.3536],
                  [0.0707, 0.0707]])}

    Brock, De, Smith and Simonyan, "High-performance large-scale image recognition without
    normalization" (AGC), ICML 2021.
    """
    ratio = _checks.check_setting("ratio", ratio)
    eps = _checks.check_setting("eps", eps)
    core.check_mask(mask)

    def clipped(name: str, w: Tensor, g: Tensor) -> Tensor:
        if mask is not None and not mask(name, w):
            return g
        size, most = _unit_norm(g), ratio * _unit_norm(w).clamp(min=eps)
        above = ~(size <= most)  # a ratio of NaN, too, is to be seen
        return g * torch.where(above, over_norm(most, torch.where(above, size, 1.0)), 1.0)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        core.check_given(params)
        return tree.map_named(clipped, params, grads)

    return core.stateless(update, core.picks_some(mask))


def clip_per_example(max_norm: Number) -> Transform:
    """The mean over examples of each one's gradient, clipped: mean_n g_n * min(1, max_norm / (||g_n|| + 1e-6)).

    No example moves the mean by more than max_norm / N. The norm is of all leaves of one example
    together. First in the chain of a step made with `per_example=True`; followed by `add_noise` of
    std `multiplier * max_norm / N` it is DP-SGD's update, without its accounting of privacy.

    Args:
        max_norm: at least 0.

    Returns:
        A Transform without state: from gradients (N, ...) for a parameter (...), to updates (...).

    Raises:
        FuncregError: for a negative number; from update, for gradients without that axis.

    >>> grads = {"w": torch.tensor([[30.0, 40.0], [0.0, 0.5]])}
    >>> updates, _ = clip_per_example(1.0).update(grads, (), {"w": torch.zeros(2)})
    >>> updates
    {'w': tensor([0.3000, 0.6500])}

    Abadi et al., "Deep learning with differential privacy", CCS 2016.
    """
    max_norm = _checks.check_setting("max_norm", max_norm)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        core.check_given(params)
        if not tree.leaves(grads):
            return grads
        rows = [g.reshape(len(g), -1) for g in tree.leaves(grads)]
        factor = over_norm(max_norm, length_of(rows, widest(rows), 1) + 1e-6).clamp(max=1.0)
        weight = factor / len(factor)
        return tree.map(lambda g: _weighed(g, weight), grads)

    return core.stateless(update, check=_check_examples)


@in_own_precision
def _weighed(g: Tensor, weight: Tensor) -> Tensor:
    """The sum over axis 0, each slice by its weight."""
    return torch.tensordot(weight.to(g.dtype), g, 1)


def _unit_norm(leaf: Tensor) -> Tensor:
    """The norm of each slice of axis 0, kept for broadcasting; of a vector, its own."""
    return length(leaf, tuple(range(1, leaf.ndim)) or None)


def _check_examples(grads: tree.Tree, params: tree.Tree) -> None:
    core.check_structure(grads, params)
    named = list(zip(tree.names(params), tree.leaves(params), tree.leaves(grads), strict=True))
    for name, w, g in named:
        if g.ndim == 0 or len(g) == 0 or g.shape[1:] != w.shape:
            remedy = "Make the step with per_example=True, and let clip_per_example come first in the chain."
            allowed = f"an axis of examples before the parameter's {tuple(w.shape)}"
            _checks.fail(entry("grads", name), _checks.describe(g), allowed, remedy)
        if len(g) != len(named[0][2]):
            allowed = f"{len(named[0][2])} examples, as {entry('grads', named[0][0])} has"
            _checks.fail(entry("grads", name), _checks.describe(g), allowed)

"""Penalties: `(params, strength, *, mask=None) -> scalar`, to be added to a loss.

Sums over every number that the mask selects, without a 1/2 and not averaged; so `l2`'s
gradient is that of a `weight_decay` of `2 * strength`. 16-bit leaves are summed in float32.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks, tree


def l1(params: tree.Tree, strength: float | Tensor, *, mask: tree.Mask | None = None) -> Tensor:
    """Lasso: `strength * sum |w|`; its gradient at 0 is 0.

    Args:
        params: a tree of floating-point tensors.
        strength: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when strength is negative, mask picks nothing, or a leaf is not floating-point
            (the message names the leaf).

    >>> l1({"weight": torch.tensor([3.0, -4.0]), "bias": torch.ones(1)}, 0.1, mask=tree.is_weight)
    tensor(0.7000)

    Tibshirani, "Regression shrinkage and selection via the lasso", JRSS B 1996.
    """
    total = _sum(params, mask, torch.abs)
    return _scale("strength", strength, total)


def l2(params: tree.Tree, strength: float | Tensor, *, mask: tree.Mask | None = None) -> Tensor:
    """Ridge: `strength * sum w**2`. Its gradient, `2 * strength * w`, is that of weight_decay = 2 * strength.

    Args:
        params: a tree of floating-point tensors.
        strength: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when strength is negative, mask picks nothing, or a leaf is not floating-point
            (the message names the leaf).

    >>> l2({"weight": torch.tensor([3.0, -4.0]), "bias": torch.ones(1)}, 0.1, mask=tree.is_weight)
    tensor(2.5000)

    Krogh and Hertz, "A simple weight decay can improve generalization", NeurIPS 1991.
    """
    total = _sum(params, mask, torch.square)
    return _scale("strength", strength, total)


def elastic_net(
    params: tree.Tree,
    l1_strength: float | Tensor,
    l2_strength: float | Tensor,
    *,
    mask: tree.Mask | None = None,
) -> Tensor:
    """Both at once: `l1_strength * sum |w| + l2_strength * sum w**2`.

    Args:
        params: a tree of floating-point tensors.
        l1_strength, l2_strength: at least 0, numbers or tensors of shape ().
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when a strength is negative, mask picks nothing, or a leaf is not floating-point
            (the message names the leaf).

    >>> elastic_net({"weight": torch.tensor([3.0, -4.0])}, 0.1, 0.01)
    tensor(0.9500)

    Zou and Hastie, "Regularization and variable selection via the elastic net", JRSS B 2005.
    """
    absolute = _scale("l1_strength", l1_strength, _sum(params, mask, torch.abs))
    return absolute + _scale("l2_strength", l2_strength, _sum(params, mask, torch.square))


def _sum(params: tree.Tree, mask: tree.Mask | None, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of a function of every selected number; 0 for an empty tree."""
    sums: list[Tensor] = []
    for name, leaf in tree.select(params, mask):
        _checks.check_floating(name, leaf)
        sums.append(function(leaf if leaf.dtype == torch.float64 else leaf.to(torch.float32)).sum())
    return functools.reduce(torch.add, sums) if sums else torch.zeros(())


def _scale(argument: str, strength: float | Tensor, total: Tensor) -> Tensor:
    _checks.check_number(argument, strength, 0.0)
    if isinstance(strength, Tensor) and strength.ndim:
        allowed = "a number or a tensor of shape ()"
        _checks.fail(argument, _checks.describe(strength), allowed, "Batch it with vmap.")
    # Two tensors of shape () promote each other; the penalty keeps the parameters' dtype.
    return (strength * total).to(total.dtype)

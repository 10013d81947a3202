"""Penalties of the weights themselves: sums over every number that the mask selects, or over groups of them."""

import math

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.norms import length
from ..tree.structure import entry
from . import core


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
    return core.scaled("strength", strength, [leaf.abs().sum() for _, leaf in core.selected(params, mask)])


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
    return core.scaled("strength", strength, [leaf.square().sum() for _, leaf in core.selected(params, mask)])


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
    leaves = [leaf for _, leaf in core.selected(params, mask)]
    absolute = core.scaled("l1_strength", l1_strength, [leaf.abs().sum() for leaf in leaves])
    return absolute + core.scaled("l2_strength", l2_strength, [leaf.square().sum() for leaf in leaves])


def group_lasso(params: tree.Tree, strength: float | Tensor, *, mask: tree.Mask | None = None, dim: int = 0) -> Tensor:
    """Group lasso: `strength * sum_g sqrt(size_g) * ||w_g||`, which empties whole groups.

    A group is a slice of a leaf along dim: with 0 the weights of one output unit or filter, with 1
    those that read one input. Each entry of a vector is a group. The gradient of an empty group is 0.

    Args:
        params: a tree of floating-point tensors.
        strength: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.
        dim: the axis whose slices are groups.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when strength is negative, mask picks nothing, a leaf is not floating-point (the
            message names the leaf), or a leaf of several axes has no axis dim.

    >>> group_lasso({"weight": torch.tensor([[3.0, 4.0], [0.0, 0.0]])}, 0.1)  # 0.1 * sqrt(2) * 5
    tensor(0.7071)

    Yuan and Lin, "Model selection and estimation in regression with grouped variables", JRSS B 2006.
    """
    groups = [_slices(name, leaf, dim) for name, leaf in core.selected(params, mask)]
    terms = [math.sqrt(each.shape[1]) * torch.sum(length(each, 1)) for each in groups]
    return core.scaled("strength", strength, terms)


def l2_distance(
    params: tree.Tree, anchor: tree.Tree, strength: float | Tensor, *, mask: tree.Mask | None = None
) -> Tensor:
    """Ridge around another point: `strength * sum (w - anchor)**2`. L2-SP, when that is where training began.

    Args:
        params: a tree of floating-point tensors.
        anchor: a tree with a leaf of the same name and shape for each that the mask picks.
        strength: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks the leaves of params, e.g. all but a new head's. Default: all.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when strength is negative, mask picks nothing, a leaf is not floating-point (the
            message names the leaf), or anchor has no such leaf.

    >>> l2_distance({"weight": torch.tensor([3.0, -4.0])}, {"weight": torch.tensor([1.0, -4.0])}, 0.1)
    tensor(0.4000)

    Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning", ICML 2018.
    """
    pairs, start = core.selected(params, mask), dict(zip(tree.names(anchor), tree.leaves(anchor), strict=True))
    for name, leaf in pairs:
        own = start.get(name)
        if not isinstance(own, Tensor) or not own.is_floating_point() or own.shape != leaf.shape:
            got = f"a tree without {name or 'it'}" if own is None else f"{_checks.describe(own)} at {name}"
            allowed = f"the leaves that mask picks in params, {name} of shape {tuple(leaf.shape)}"
            _checks.fail("anchor", got, allowed, "A mask can leave it out.")
        _checks.check_beside(entry("anchor", name), own, leaf, entry("params", name))
    return core.scaled("strength", strength, [(leaf - start[name]).square().sum() for name, leaf in pairs])


def _slices(name: str, leaf: Tensor, dim: int) -> Tensor:
    """The slices of a leaf along dim, a row each."""
    if leaf.ndim < 2:
        return leaf.reshape(-1, 1)
    _checks.check_count("dim", dim, -(2**31))
    if not -leaf.ndim <= dim < leaf.ndim:
        _checks.fail("dim", dim, f"an axis of {name}, which has {leaf.ndim}", "A mask can leave it out.")
    return leaf.movedim(dim, 0).flatten(1)

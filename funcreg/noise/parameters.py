"""Noise of parameters."""

from torch import Tensor

from .. import _checks, random, tree
from ..tree.checks import selected
from .elements import dropout


def drop_connect(params: tree.Tree, rate: float | Tensor, *, key: Tensor, mask: tree.Mask | None = None) -> tree.Tree:
    """Dropout on parameters: zero each number of the selected leaves with probability rate.

    Args:
        params: a tree of tensors.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.

    Returns:
        A tree like params; unselected leaves as they are.

    Raises:
        FuncregError: when rate is not in [0, 1], mask picks nothing, or a leaf is not floating-point
            (the message names the leaf).

    >>> import torch
    >>> drop_connect({"weight": torch.ones(4), "bias": torch.ones(2)}, 0.5, key=random.key(0), mask=tree.is_weight)
    {'weight': tensor([...]), 'bias': tensor([1., 1.])}

    Wan, Zeiler, Zhang, LeCun and Fergus, "Regularization of neural networks using DropConnect", ICML 2013.
    """
    _checks.check_key(key)
    rate = _checks.check_setting("rate", rate, 0.0, 1.0)
    chosen = [name for name, _ in selected("params", params, mask)]
    keys = dict(zip(chosen, random.split(key, max(1, len(chosen))), strict=False))
    return tree.map_named(lambda name, leaf: dropout(leaf, rate, key=keys[name]) if name in keys else leaf, params)

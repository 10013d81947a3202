"""K trees of one structure as one tree with a leading axis, as `vmap` takes them, and back."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .. import _checks
from .structure import Tree, leaves, map, names


def stack(trees: Iterable[Tree]) -> Tree:
    """K trees of one structure as one tree, whose leaves have a leading axis of length K.

    Args:
        trees: at least one; tensors or Python numbers as leaves.

    Returns:
        A tree of tensors (K, ...).

    Raises:
        FuncregError: when there is none, or structures differ.

    >>> stack([{"w": torch.tensor(1)}, {"w": torch.tensor(2)}])
    {'w': tensor([1, 2])}
    """
    first, *rest = _nonempty(list(trees))
    return map(lambda *each: torch.stack([torch.as_tensor(leaf) for leaf in each]), first, *rest)


def unstack(tree: Tree) -> list[Tree]:
    """The K trees of a stacked one.

    >>> unstack({"w": torch.tensor([1, 2])})
    [{'w': tensor(1)}, {'w': tensor(2)}]
    """
    return [index(tree, member) for member in range(members(tree))]


def index(tree: Tree, member: int | Tensor) -> Tree:
    """One member of a stacked tree: `leaf[member]` of every leaf.

    >>> index({"w": torch.tensor([1, 2])}, 1)
    {'w': tensor(2)}
    """
    return map(lambda leaf: leaf[member], tree)


def members(tree: Tree) -> int:
    """The length of the leading axis that all leaves share.

    Raises:
        FuncregError: when they do not share one; the message names two leaves that differ.

    >>> members({"a": torch.zeros(3, 2), "b": torch.zeros(3)})
    3
    """
    named = list(zip(names(tree), leaves(tree), strict=True))
    if not named:
        _checks.fail("tree", "no leaves", "a tree of tensors with a leading axis")
    for name, leaf in named:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            _checks.fail(name, _checks.describe(leaf), "a tensor with a leading axis")
        if leaf.shape[0] != named[0][1].shape[0]:
            first, length = named[0][0], named[0][1].shape[0]
            _checks.fail(name, _checks.describe(leaf), f"a leading axis of {length}, as {first} has")
    return named[0][1].shape[0]


def _nonempty(trees: list[Tree]) -> list[Tree]:
    if not trees:
        _checks.fail("trees", "none", "at least one tree")
    return trees

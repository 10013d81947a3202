"""The numbers in a tree: norm, choice, copies, conversions."""

import torch
from torch import Tensor

from .structure import Tree, leaves, map


def norm(tree: Tree) -> Tensor:
    """The Euclidean norm of all leaves together; its gradient at zero is zero.

    Args:
        tree: of floating-point tensors; an empty one has norm 0.

    Returns:
        A tensor of shape ().

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor(5.)
    """
    flat = leaves(tree)
    if not flat:
        return torch.zeros(())
    each = [torch.linalg.vector_norm(leaf) for leaf in flat]
    return each[0] if len(each) == 1 else torch.linalg.vector_norm(torch.stack(each))


def where(condition: Tensor, true: Tree, false: Tree) -> Tree:
    """Choose one of two trees, leaf by leaf, by a condition that may be batched under vmap.

    Args:
        condition: bool of shape (), or one that broadcasts with every leaf.
        true, false: trees of one structure.

    Returns:
        A tree of that structure.

    >>> where(torch.tensor(True), {"w": torch.tensor(1)}, {"w": torch.tensor(2)})
    {'w': tensor(1)}
    """
    return map(lambda a, b: torch.where(condition, a, b), true, false)


def zeros_like(tree: Tree) -> Tree:
    """Zeros with the shapes and dtypes of a tree.

    >>> zeros_like({"w": torch.ones(2)})
    {'w': tensor([0., 0.])}
    """
    return map(torch.zeros_like, tree)


def cast(tree: Tree, dtype: torch.dtype) -> Tree:
    """Floating-point leaves in another dtype; integers, keys and masks as they are.

    >>> cast({"w": torch.ones(1), "n": torch.tensor(3)}, torch.float64)
    {'w': tensor([1.], dtype=torch.float64), 'n': tensor(3)}
    """
    return map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree)


def to(tree: Tree, device: torch.device | str) -> Tree:
    """Every leaf on a device.

    >>> to({"w": torch.ones(1)}, "cpu")
    {'w': tensor([1.])}
    """
    return map(lambda leaf: leaf.to(device), tree)


def clone(tree: Tree) -> Tree:
    """Copies that share no storage with the leaves and carry no gradient history.

    >>> clone({"w": torch.ones(1)})
    {'w': tensor([1.])}
    """
    return map(lambda leaf: leaf.detach().clone(), tree)


def count(tree: Tree) -> int:
    """How many numbers a tree holds.

    >>> count({"w": torch.zeros(3, 4), "b": torch.zeros(4)})
    16
    """
    return sum(leaf.numel() for leaf in leaves(tree))

"""K trees of one structure as one tree with a leading axis, as `vmap` takes them, and back."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .checks import check_tensors
from .structure import Tree, check_structure, entry, leaves, map, map_as, map_named, names


def stack(trees: Iterable[Tree]) -> Tree:
    """K trees of one structure as one tree, whose leaves have a leading axis of length K.

    Args:
        trees: at least one; tensors or Python numbers as leaves.

    Returns:
        A tree of tensors (K, ...).

    Raises:
        FuncregError: when there is none, structures differ, or the shapes of a leaf do (by its name).

    >>> stack([{"w": torch.tensor(1)}, {"w": torch.tensor(2)}])
    {'w': tensor([1, 2])}
    """
    first, *rest = _nonempty(_checks.check_several("trees", trees, "trees"))
    try:
        return map_as("trees", _stacked, first, *rest, like="the first")
    except (RuntimeError, TypeError):
        check_structure("trees", first, rest, "the first")
        map_named(_check_one_shape, first, *rest)
        raise


def unstack(tree: Tree) -> list[Tree]:
    """The K trees of a stacked one.

    Args:
        tree: of tensors with a leading axis, of one length K.

    Returns:
        A list of K trees without that axis.

    Raises:
        FuncregError: when leaves do not share a leading axis; see `members`.

    >>> unstack({"w": torch.tensor([1, 2])})
    [{'w': tensor(1)}, {'w': tensor(2)}]
    """
    return [index(tree, member) for member in range(members(tree))]


def index(tree: Tree, member: int | Tensor) -> Tree:
    """One member of a stacked tree: `leaf[member]` of every leaf.

    Args:
        tree: of tensors with a leading axis, of one length.
        member: an integer, or a tensor of integers (batched under vmap).

    Returns:
        A tree without that axis, or with those of member in its place.

    Raises:
        FuncregError: when member is not an integer or there is none of that number, or a leaf has no leading axis.

    >>> index({"w": torch.tensor([1, 2])}, 1)
    {'w': tensor(2)}
    """
    mask = isinstance(member, bool) or (isinstance(member, Tensor) and member.dtype == torch.bool)
    if mask or not isinstance(member, int | torch.SymInt | Tensor) or (isinstance(member, Tensor) and member.is_meta):
        _checks.fail("member", _checks.describe(member), "an integer, or a tensor of integers")
    check_tensors("tree", tree)
    try:
        return map(lambda leaf: leaf[member], tree)
    except (IndexError, TypeError, ValueError):
        _checks.fail("member", _checks.describe(member), f"the number of one of {members(tree)} members")


def members(tree: Tree) -> int:
    """The length of the leading axis that all leaves share.

    Args:
        tree: of tensors with a leading axis, of one length.

    Returns:
        That length.

    Raises:
        FuncregError: when they do not share one; the message names two leaves that differ.

    >>> members({"a": torch.zeros(3, 2), "b": torch.zeros(3)})
    3
    """
    return members_of("tree", tree)


def members_of(argument: str, tree: Tree) -> int:
    """`members` for a caller whose tree has another name, which an error tells.

    >>> members_of("data", {"a": torch.zeros(3, 2)})
    3
    """
    named = list(zip(names(tree), leaves(tree), strict=True))
    if not named:
        _checks.fail(argument, "no leaves", "a tree of tensors with a leading axis")
    for name, leaf in named:
        where = entry(argument, name)
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            _checks.fail(where, _checks.describe(leaf), "a tensor with a leading axis")
        if leaf.shape[0] != named[0][1].shape[0]:
            first, length = named[0][0], named[0][1].shape[0]
            _checks.fail(where, _checks.describe(leaf), f"a leading axis of {length}, as {first} has")
    return named[0][1].shape[0]


def _stacked(*leaves: Any) -> Tensor:
    return torch.stack([torch.as_tensor(leaf) for leaf in leaves])


def _check_one_shape(name: str, *each: Any) -> None:
    shapes = [tuple(torch.as_tensor(leaf).shape) for leaf in each if isinstance(leaf, Tensor | bool | int | float)]
    if len(shapes) < len(each) or len(set(shapes)) > 1:
        got = f"leaves of shapes {shapes}" if len(shapes) == len(each) else _checks.describe(each[0])
        _checks.fail(entry("trees", name), got, "tensors or numbers, of one shape in every tree")
    tensors = [leaf for leaf in each if isinstance(leaf, Tensor)]
    for leaf in tensors:
        _checks.check_beside(entry("trees", name), leaf, tensors[0], "that of the first")


def _nonempty(trees: list[Tree]) -> list[Tree]:
    if not trees:
        _checks.fail("trees", "none", "at least one tree")
    return trees

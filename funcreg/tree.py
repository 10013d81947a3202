"""Pytrees: what parameters, state and train states are made of. Built on optree.

A tree is a tensor, or a dict, tuple, list or NamedTuple of trees. A leaf's name is its path
joined by dots: `{"0": {"weight": w}}` and `{"0.weight": w}` both name `0.weight`.
"""

import builtins
from collections.abc import Callable, Iterable
from typing import Any

import optree
import torch
from torch import Tensor

from . import _checks

Tree = Any  # a tensor, or a dict, tuple, list or NamedTuple of trees
Mask = Callable[[str, Tensor], bool]

_PARAMETRIZED = ("original", "original0", "original1")


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to every leaf, and to the leaves of `others` at the same place.

    Args:
        function: takes one leaf of each tree.
        tree: its structure is the result's.
        others: trees of the same structure.

    Returns:
        A tree of results.

    Raises:
        FuncregError: when the structures differ.

    >>> map(lambda a, b: a + b, {"w": torch.tensor(1)}, {"w": torch.tensor(2)})
    {'w': tensor(3)}
    """
    try:
        return optree.tree_map(function, tree, *others)
    except ValueError as error:
        if isinstance(error, _checks.FuncregError) or not others:
            raise
        _same_structure("tree", tree, others)
        raise


def map_named(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """`map` whose function also gets the leaf's name, first.

    >>> map_named(lambda name, leaf: name, {"a": (torch.tensor(1), torch.tensor(2))})
    {'a': ('a.0', 'a.1')}
    """
    if others:
        _same_structure("tree", tree, others)
    flat, structure = optree.tree_flatten(tree)
    rest = [optree.tree_leaves(other) for other in others]
    return structure.unflatten(function(*each) for each in zip(names(tree), flat, *rest, strict=True))


def leaves(tree: Tree) -> list[Any]:
    """The leaves, dicts in the order of their sorted keys.

    >>> leaves({"b": torch.tensor(2), "a": torch.tensor(1)})
    [tensor(1), tensor(2)]
    """
    return optree.tree_leaves(tree)


def names(tree: Tree) -> list[str]:
    """The names of the leaves, in the order of `leaves`.

    >>> names({"0.weight": torch.zeros(1), "head": (torch.zeros(1), torch.zeros(1))})
    ['0.weight', 'head.0', 'head.1']
    """
    return [".".join(str(part) for part in path) for path in optree.tree_paths(tree)]


def norm(tree: Tree) -> Tensor:
    """The Euclidean norm of all leaves together; its gradient at zero is zero.

    Args:
        tree: of floating-point tensors; an empty one has norm 0.

    Returns:
        A tensor of shape ().

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor(5.)
    """
    flat = optree.tree_leaves(tree)
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


def partition(tree: dict[str, Any], mask: Mask) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a dict of tensors (dicts may nest) into what a mask selects, and the rest.

    Differentiating a function of the first alone is what freezes the second.

    Args:
        tree: a dict whose leaves are tensors.
        mask: (name, leaf) -> bool.

    Returns:
        (selected, rest): two dicts; `merge` puts them together again.

    >>> partition({"0.weight": torch.ones(1), "0.bias": torch.zeros(1)}, is_weight)
    ({'0.weight': tensor([1.])}, {'0.bias': tensor([0.])})
    """
    return _filter(tree, mask, True, ""), _filter(tree, mask, False, "")


def merge(*trees: dict[str, Any]) -> dict[str, Any]:
    """One dict of several that share no leaf.

    Raises:
        FuncregError: when two hold the same leaf.

    >>> merge({"a": torch.tensor(1)}, {"b": torch.tensor(2)})
    {'a': tensor(1), 'b': tensor(2)}
    """
    merged: dict[str, Any] = {}
    for tree in trees:
        for name, value in tree.items():
            if name not in merged:
                merged[name] = value
            elif isinstance(value, dict) and isinstance(merged[name], dict):
                merged[name] = merge(merged[name], value)
            else:
                _checks.fail("trees", f"{name!r} in more than one tree", "trees that share no leaf")
    return merged


def select(tree: Tree, mask: Mask | None) -> list[tuple[str, Tensor]]:
    """The (name, leaf) pairs that a mask picks; all of them when it is None.

    Raises:
        FuncregError: when a mask that was given picks none.

    >>> [name for name, _ in select({"0.weight": torch.ones(1), "0.bias": torch.ones(1)}, is_weight)]
    ['0.weight']
    """
    pairs = list(zip(names(tree), leaves(tree), strict=True))
    if mask is None:
        return pairs
    _checks.check_callable("mask", mask, "a function (name, leaf) -> bool, such as fr.tree.is_weight")
    picked = [(name, leaf) for name, leaf in pairs if mask(name, leaf)]
    if pairs and not picked:
        _checks.fail("mask", "a function that picks no leaf", "one that picks some of " + ", ".join(names(tree)[:8]))
    return picked


def is_weight(name: str, leaf: Tensor | None = None) -> bool:
    """Whether a parameter is a weight, not a bias: the usual mask for decay.

    By name, since a stacked bias has two dimensions as a weight does: every parameter of torch's
    layers but biases (`bias`, `bias_hh_l0`, `in_proj_bias`) counts, under a parametrization
    (`parametrizations.weight.original`) too. A normalisation's scale is called `weight` and
    counts; exclude it by its own name if that is not wanted.

    >>> [is_weight(name) for name in ("0.weight", "rnn.bias_hh_l0", "parametrizations.weight.original")]
    [True, False, True]
    """
    parts = name.split(".")
    own = parts[-2] if parts[-1] in _PARAMETRIZED and len(parts) > 1 else parts[-1]
    return not (own.startswith("bias") or own.endswith("_bias"))


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
    return builtins.sum(leaf.numel() for leaf in leaves(tree))


def _filter(tree: dict[str, Any], mask: Mask, keep: bool, prefix: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        _checks.fail("tree", _checks.describe(tree), "a dict of tensors (dicts may nest)")
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            kept[name] = _filter(value, mask, keep, f"{prefix}{name}.")
        elif bool(mask(f"{prefix}{name}", value)) is keep:
            kept[name] = value
    return kept


def _nonempty(trees: list[Tree]) -> list[Tree]:
    if not trees:
        _checks.fail("trees", "none", "at least one tree")
    return trees


def _same_structure(argument: str, tree: Tree, others: Iterable[Tree]) -> None:
    expected = set(names(tree))
    for other in others:
        found = set(names(other))
        if found != expected:
            missing, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
            _checks.fail(argument, f"trees that differ (missing {missing}, extra {extra})", "trees of one structure")

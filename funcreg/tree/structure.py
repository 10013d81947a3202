"""The shape of a tree: its leaves, their names, and a function over them."""

from collections.abc import Callable, Iterable
from typing import Any

import optree

from .. import _checks

Tree = Any  # a tensor, or a dict, tuple, list or NamedTuple of trees


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

    >>> import torch
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

    >>> import torch
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

    >>> import torch
    >>> leaves({"b": torch.tensor(2), "a": torch.tensor(1)})
    [tensor(1), tensor(2)]
    """
    return optree.tree_leaves(tree)


def names(tree: Tree) -> list[str]:
    """The names of the leaves, in the order of `leaves`.

    >>> import torch
    >>> names({"0.weight": torch.zeros(1), "head": (torch.zeros(1), torch.zeros(1))})
    ['0.weight', 'head.0', 'head.1']
    """
    return [".".join(path) for path in _paths(tree)]


def _paths(tree: Tree) -> list[tuple[str, ...]]:
    """Each leaf's path. Not optree's, which torch.compile cannot trace through an empty dict."""
    if isinstance(tree, dict):
        children = [(str(name), tree[name]) for name in sorted(tree)]
    elif isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        children = [(str(field), child) for field, child in zip(fields, tree, strict=True)]
    else:
        return [] if tree is None else [()]
    return [(name, *path) for name, child in children for path in _paths(child)]


def _same_structure(argument: str, tree: Tree, others: Iterable[Tree]) -> None:
    expected = set(names(tree))
    for other in others:
        found = set(names(other))
        if found != expected:
            missing, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
            _checks.fail(argument, f"trees that differ (missing {missing}, extra {extra})", "trees of one structure")

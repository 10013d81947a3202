"""The shape of a tree: its leaves, their names, and a function over them."""

import builtins
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import optree
import torch

from .. import _checks
from . import traced

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
    return map_as("others", function, tree, *others, like="tree")


def map_as(argument: str, function: Callable[..., Any], tree: Tree, *others: Tree, like: str) -> Tree:
    """`map` for a caller whose others have another name, and so has the tree that they are to be like.

    >>> map_as("trees", lambda a, b: a + b, {"n": 1}, {"n": 2}, like="the first")
    {'n': 3}
    """
    try:
        if torch.compiler.is_dynamo_compiling():
            return traced.unflatten(tree, builtins.map(function, *flatten_up_to(tree, *others)))
        return optree.tree_map(function, tree, *others)
    except (TypeError, ValueError) as error:
        # Only now, since a training step maps often and has nothing to be told.
        if not isinstance(error, _checks.FuncregError):
            _checks.check_callable("function", function, "a function of one leaf of each tree")
            check_structure(argument, tree, others, like)
            if any(optree.tree_structure(other) != optree.tree_structure(tree) for other in others):
                _checks.fail(argument, f"trees that differ ({error})", f"the structure of {like}")
        raise


def map_named(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """`map` whose function also gets the leaf's name, first.

    Args:
        function: takes a leaf's name, and one leaf of each tree.
        tree: its structure is the result's.
        others: trees of the same structure.

    Returns:
        A tree of results.

    Raises:
        FuncregError: when the structures differ.

    >>> import torch
    >>> map_named(lambda name, leaf: name, {"a": (torch.tensor(1), torch.tensor(2))})
    {'a': ('a.0', 'a.1')}
    """
    _checks.check_callable("function", function, "a function of a name and one leaf of each tree")
    if others:
        check_structure("others", tree, others, "tree")
    flat, structure = optree.tree_flatten(tree)
    rest = [optree.tree_leaves(other) for other in others]
    return structure.unflatten(function(*each) for each in zip(names(tree), flat, *rest, strict=True))


def leaves(tree: Tree) -> list[Any]:
    """The leaves, dicts in the order of their sorted keys, an OrderedDict in its own.

    Args:
        tree: of anything.

    Returns:
        A list; None has no leaf.

    >>> import torch
    >>> leaves({"b": torch.tensor(2), "a": torch.tensor(1)})
    [tensor(1), tensor(2)]
    """
    if torch.compiler.is_dynamo_compiling():
        return traced.leaves(tree)
    return optree.tree_leaves(tree)


def flatten_up_to(tree: Tree, *others: Tree) -> tuple[list[Any], ...]:
    """The leaves of a tree, and what each of the others has at their places.

    Raises:
        ValueError, TypeError: when another has not all of its nodes.

    >>> flatten_up_to({"w": 1}, {"w": [2]})
    ([1], [[2]])
    """
    if torch.compiler.is_dynamo_compiling():
        return traced.leaves(tree), *[traced.leaves_up_to(tree, other) for other in others]
    flat, structure = optree.tree_flatten(tree)
    return flat, *[structure.flatten_up_to(other) for other in others]


def unflatten(like: Tree, leaves: Iterable[Any]) -> Tree:
    """A tree of the structure of another with these leaves.

    >>> unflatten({"w": 1}, [2])
    {'w': 2}
    """
    if torch.compiler.is_dynamo_compiling():
        return traced.unflatten(like, iter(leaves))
    return optree.tree_structure(like).unflatten(leaves)


def names(tree: Tree) -> list[str]:
    """The names of the leaves, in the order of `leaves`.

    Args:
        tree: of anything.

    Returns:
        A list: keys, indices and fields joined by dots; "" for a leaf alone.

    Raises:
        FuncregError: for a dict whose keys have no order, such as 1 and "a".

    >>> import torch
    >>> names({"0.weight": torch.zeros(1), "head": (torch.zeros(1), torch.zeros(1))})
    ['0.weight', 'head.0', 'head.1']
    """
    return [".".join(path) for path in _paths(tree)]


def entry(argument: str, name: str) -> str:
    """A leaf as an error calls it.

    >>> entry("params", "0.weight"), entry("params", "")
    ("params's 0.weight", 'params')
    """
    return f"{argument}'s {name}" if name else argument


def _paths(tree: Tree) -> list[tuple[str, ...]]:
    """Each leaf's path. Not optree's, which torch.compile cannot trace through an empty dict."""
    if isinstance(tree, dict):
        try:
            keys = tree if isinstance(tree, OrderedDict) else sorted(tree)
            children = [(str(name), tree[name]) for name in keys]
        except TypeError:
            _checks.fail("tree", f"a dict with the keys {list(tree)}", "keys of one kind, such as strings")
    elif isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        children = [(str(field), child) for field, child in zip(fields, tree, strict=True)]
    else:
        return [] if tree is None else [()]
    return [(name, *path) for name, child in children for path in _paths(child)]


def check_structure(argument: str, tree: Tree, others: Iterable[Tree], like: str) -> None:
    """Refuse others whose leaves have not the names of a tree's, which is called `like`.

    >>> check_structure("updates", {"w": 1}, [{"v": 1}], "params")
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: updates: got trees that differ (missing ['w'], extra ['v']); expected the structure \
of params.
    """
    expected = names(tree)
    for other in others:
        found = names(other)
        if found != expected:
            missing, extra = sorted({*expected} - {*found})[:5], sorted({*found} - {*expected})[:5]
            how = f"missing {missing}, extra {extra}" if missing or extra else "the same names in another order"
            _checks.fail(argument, f"trees that differ ({how})", f"the structure of {like}")

"""What a function refuses of a tree that it is given, by the name of its argument and of the leaf."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from .. import _checks
from .masks import Mask, select
from .structure import Tree, entry, flatten_up_to, leaves, names


def check_tensors(argument: str, tree: Tree) -> None:
    """Refuse None, and a leaf that is not a tensor.

    >>> check_tensors("params", "text")
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: params: got 'text' (str); expected a tensor.
    """
    if tree is None:
        _checks.fail(argument, "None", "a tree of tensors")
    for index, leaf in enumerate(leaves(tree)):
        if not isinstance(leaf, Tensor):
            _checks.fail(entry(argument, names(tree)[index]), _checks.describe(leaf), "a tensor")


def check_values(argument: str, tree: Tree) -> None:
    """Refuse a tensor on meta, which kernels would take for one with values.

    >>> import torch
    >>> check_values("params", {"w": torch.ones(1)})
    """
    for index, leaf in enumerate(leaves(tree)):
        if isinstance(leaf, Tensor) and leaf.is_meta:
            _checks.fail(entry(argument, names(tree)[index]), "one on meta", "a tensor with values")


def check_floating(argument: str, tree: Tree) -> None:
    """Refuse None, and a leaf that is not a tensor of real floating-point numbers.

    >>> check_floating("params", {"w": [1.0]})
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: params's w.0: got 1.0 (float); expected a dense floating-point tensor.
    """
    if tree is None:
        _checks.fail(argument, "None", "a tree of floating-point tensors")
    flat = leaves(tree)
    for index, leaf in enumerate(flat):
        if not _is_floating(leaf):
            _checks.fail(entry(argument, names(tree)[index]), _checks.describe(leaf), "a dense floating-point tensor")


def selected(argument: str, tree: Tree, mask: Mask | None, *, axes: int = 0) -> list[tuple[str, Tensor]]:
    """The (name, leaf) pairs that a mask picks, by default all of so many axes; refuse others, and None.

    >>> import torch
    >>> selected("params", {"bias": torch.ones(2), "weight": torch.ones(1, 1)}, None, axes=2)
    [('weight', tensor([[1.]]))]
    """
    check_tensors(argument, tree)
    pairs = select(tree, mask)
    if mask is None:
        pairs = [(name, leaf) for name, leaf in pairs if leaf.ndim >= axes] or pairs
    for name, leaf in pairs:
        if not _is_floating(leaf):
            _checks.fail(entry(argument, name), _checks.describe(leaf), "a dense floating-point tensor")
        if leaf.ndim < axes:
            remedy = f"Leave it out: mask=lambda name, leaf: leaf.ndim >= {axes}."
            _checks.fail(entry(argument, name), _checks.describe(leaf), f"a tensor of at least {axes} axes", remedy)
    return pairs


def check_like(
    argument: str,
    tree: Tree,
    like_argument: str,
    like: Tree,
    remedy: str = "",
    *,
    shapes: bool = True,
    dtypes: bool = False,
) -> None:
    """Refuse a tree without the structure, shapes and devices of another, and one of them that is not floating-point.

    dtypes: refuse other dtypes too, but beside 16-bit leaves.

    >>> import torch
    >>> check_like("grads", {"w": torch.ones(3)}, "params", {"w": torch.ones(2, 3)})
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: grads's w: got a float32 tensor of shape (3,); expected shape (2, 3), as in params.
    """
    try:
        flat, found = flatten_up_to(like, tree)
    except (TypeError, ValueError):
        check_floating(like_argument, like)
        _differ(argument, tree, like_argument, like)
    try:
        if all(
            leaf.dtype in _checks.FLOATING
            and own.dtype in _checks.FLOATING
            and leaf.device == own.device
            and leaf.layout == own.layout
            and (not shapes or leaf.shape == own.shape)
            and (not dtypes or leaf.dtype == own.dtype or own.dtype.itemsize == 2)
            for leaf, own in zip(found, flat, strict=True)
        ):
            return
    except AttributeError:  # what is no tensor, and gets its name below
        pass
    check_floating(like_argument, like)
    for name, leaf, own in zip(names(like), found, flat, strict=True):
        where, got = entry(argument, name), _checks.describe(leaf)
        if not _is_floating(leaf):
            _checks.fail(
                where, got, f"a dense floating-point tensor of shape {tuple(own.shape)}, as in {like_argument}"
            )
        if shapes and leaf.shape != own.shape:
            _checks.fail(where, got, f"shape {tuple(own.shape)}, as in {like_argument}", remedy)
        _checks.check_beside(where, leaf, own, like_argument)
        if dtypes and leaf.dtype != own.dtype and own.dtype.itemsize != 2:
            _checks.fail(where, got, _checks.describe(own), remedy)


def _is_floating(leaf: Any) -> bool:
    dense = isinstance(leaf, Tensor) and leaf.layout == torch.strided and not leaf.is_nested
    return dense and leaf.dtype in _checks.FLOATING


def _differ(argument: str, tree: Tree, like_argument: str, like: Tree) -> NoReturn:
    """Refuse a tree of another structure by what it lacks and has too much."""
    allowed = f"a tree like {like_argument}"
    if not isinstance(tree, dict | tuple | list):
        _checks.fail(argument, _checks.describe(tree), allowed)
    found, expected = names(tree), names(like)
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    if not missing and not extra:
        _checks.fail(argument, f"a tree of another kind ({type(tree).__name__})", f"{allowed}, {type(like).__name__}")
    _checks.fail(argument, f"a tree with missing {missing[:5]}, extra {extra[:5]}", allowed)

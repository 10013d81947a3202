"""Some leaves of a tree, chosen by name."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from .. import _checks
from .structure import Tree, entry, leaves, names

Mask = Callable[[str, Tensor], bool]

_PARAMETRIZED = ("original", "original0", "original1")


def partition(tree: dict[str, Any], mask: Mask) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a dict of tensors (dicts may nest) into what a mask selects, and the rest.

    Differentiating a function of the first alone is what freezes the second.

    Args:
        tree: a dict whose leaves are tensors.
        mask: (name, leaf) -> bool.

    Returns:
        (selected, rest): two dicts; `merge` puts them together again.

    Raises:
        FuncregError: for what is not a dict of tensors, or a mask that cannot be called.

    >>> import torch
    >>> partition({"0.weight": torch.ones(1), "0.bias": torch.zeros(1)}, is_weight)
    ({'0.weight': tensor([1.])}, {'0.bias': tensor([0.])})
    """
    _check_mask(mask)
    return _filter(tree, mask, True, ""), _filter(tree, mask, False, "")


def merge(*trees: dict[str, Any]) -> dict[str, Any]:
    """One dict of several that share no leaf.

    Args:
        trees: dicts of tensors; dicts may nest.

    Returns:
        A dict of all leaves.

    Raises:
        FuncregError: when two hold the same leaf, or one is not a dict of tensors.

    >>> import torch
    >>> merge({"a": torch.tensor(1)}, {"b": torch.tensor(2)})
    {'a': tensor(1), 'b': tensor(2)}
    """
    merged: dict[str, Any] = {}
    for tree in trees:
        for name, value in _items("trees", tree, ""):
            if name not in merged:
                merged[name] = value
            elif isinstance(value, dict) and isinstance(merged[name], dict):
                merged[name] = merge(merged[name], value)
            else:
                _checks.fail("trees", f"{name!r} in more than one tree", "trees that share no leaf")
    return merged


def select(tree: Tree, mask: Mask | None) -> list[tuple[str, Tensor]]:
    """The (name, leaf) pairs that a mask picks; all of them when it is None.

    Args:
        tree: of tensors.
        mask: (name, leaf) -> bool, or None.

    Returns:
        A list of pairs.

    Raises:
        FuncregError: for a leaf that is not a tensor, by its name; when a mask that was given picks none.

    >>> import torch
    >>> [name for name, _ in select({"0.weight": torch.ones(1), "0.bias": torch.ones(1)}, is_weight)]
    ['0.weight']
    """
    if tree is None:
        _checks.fail("tree", "None", "a tree of tensors")
    pairs = list(zip(names(tree), leaves(tree), strict=True))
    for name, leaf in pairs:
        if not isinstance(leaf, Tensor):
            _checks.fail(entry("tree", name), _checks.describe(leaf), "a tensor")
    if mask is None:
        return pairs
    _check_mask(mask)
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

    Args:
        name: of a parameter: its path, joined by dots.
        leaf: not looked at; a mask is called with it.

    Returns:
        True or False.

    Raises:
        FuncregError: when name is not a string.

    >>> [is_weight(name) for name in ("0.weight", "rnn.bias_hh_l0", "parametrizations.weight.original")]
    [True, False, True]
    """
    if not isinstance(name, str):
        _checks.fail("name", _checks.describe(name), "a parameter's name, such as '0.weight'")
    parts = name.split(".")
    own = parts[-2] if parts[-1] in _PARAMETRIZED and len(parts) > 1 else parts[-1]
    return not (own.startswith("bias") or own.endswith("_bias"))


def _check_mask(mask: Any) -> None:
    _checks.check_callable("mask", mask, "a function (name, leaf) -> bool, such as fr.tree.is_weight")


def _items(argument: str, tree: Any, prefix: str) -> Iterable[tuple[str, Any]]:
    """The items of a dict of tensors and of more such dicts; anything else is refused."""
    if not isinstance(tree, dict):
        _checks.fail(argument, _checks.describe(tree), "a dict of tensors (dicts may nest)")
    for name, value in tree.items():
        if not isinstance(value, Tensor | dict):
            _checks.fail(entry(argument, f"{prefix}{name}"), _checks.describe(value), "a tensor or a dict of tensors")
    return tree.items()


def _filter(tree: dict[str, Any], mask: Mask, keep: bool, prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in _items("tree", tree, prefix):
        if isinstance(value, dict):
            kept[name] = _filter(value, mask, keep, f"{prefix}{name}.")
        elif bool(mask(f"{prefix}{name}", value)) is keep:
            kept[name] = value
    return kept

"""The numbers in a tree: choice, copies, conversions."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import _checks
from .checks import check_tensors
from .structure import Tree, entry, leaves, map, map_as, map_named

F = TypeVar("F", bound=Callable[..., Any])


def precise(x: Tensor) -> Tensor:
    """At least float32.

    >>> precise(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def wide(tree: Tree) -> Tree:
    """Every leaf at least float32: what 16-bit numbers are summed, averaged and remembered in.

    >>> wide({"w": torch.ones(1, dtype=torch.bfloat16)})
    {'w': tensor([1.])}
    """
    return map(precise, tree)


def widest(leaves: Iterable[Tensor]) -> torch.dtype:
    """The dtype that numbers of all leaves together are computed in: float64 if one is, else float32.

    >>> widest([torch.ones(1, dtype=torch.bfloat16)])
    torch.float32
    """
    return torch.float64 if any(leaf.dtype == torch.float64 for leaf in leaves) else torch.float32


def in_own_precision(function: F) -> F:
    """A function of a tensor first, outside of autocast, which would round its products to 16 bits.

    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     in_own_precision(torch.mv)(torch.eye(2), torch.ones(2)).dtype
    torch.float32
    """

    def precisely(first: Any, *args: Any, **kwargs: Any) -> Any:
        if first.is_meta or not torch.is_autocast_enabled(first.device.type):
            return function(first, *args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    own: Any = precisely
    return own


def sign(x: Tensor) -> Tensor:
    """The sign, of NaN too, of which torch's is 0.

    >>> sign(torch.tensor([-2.0, torch.nan]))
    tensor([-1., nan])
    """
    return torch.where(x.isnan(), x, torch.sign(x))


def where(condition: Tensor, true: Tree, false: Tree) -> Tree:
    """Choose one of two trees, leaf by leaf, by a condition that may be batched under vmap.

    Args:
        condition: bool of shape (), or one that broadcasts with every leaf.
        true, false: trees of tensors of one structure.

    Returns:
        A tree of that structure.

    Raises:
        FuncregError: when condition is not a tensor of booleans, or the structures or the shapes of a leaf differ.

    >>> where(torch.tensor(True), {"w": torch.tensor(1)}, {"w": torch.tensor(2)})
    {'w': tensor(1)}
    """
    if not isinstance(condition, Tensor) or condition.dtype != torch.bool:
        _checks.fail("condition", _checks.describe(condition), "a tensor of booleans", "Compare, or use Python's if.")

    def choose(a: Tensor, b: Tensor) -> Tensor:
        chosen = torch.where(condition, a, b)
        if not chosen.shape == a.shape == b.shape:
            raise TypeError("other shapes")
        return chosen

    try:
        return map_as("false", choose, true, false, like="true")
    except (AttributeError, RuntimeError, TypeError):
        check_tensors("true", true)
        check_tensors("false", false)
        map_named(lambda name, *both: _check_choice(name, condition, *both), true, false)
        raise


def _check_choice(name: str, condition: Tensor, a: Tensor, b: Tensor) -> None:
    """Refuse two leaves between which one condition cannot choose."""
    if a.shape != b.shape:
        allowed = f"shape {tuple(a.shape)}, as in true"
        _checks.fail(entry("false", name), _checks.describe(b), allowed)
    _checks.check_beside(entry("false", name), b, a, entry("true", name))
    _checks.check_beside("condition", condition, a, entry("true", name))
    _checks.fail("condition", _checks.describe(condition), f"a shape that broadcasts to {entry('true', name)}")


def zeros_like(tree: Tree) -> Tree:
    """Zeros with the shapes and dtypes of a tree.

    Args:
        tree: of tensors.

    Returns:
        A tree of its structure.

    Raises:
        FuncregError: for a leaf that is not a tensor, by its name.

    >>> zeros_like({"w": torch.ones(2)})
    {'w': tensor([0., 0.])}
    """
    return _map_tensors(torch.zeros_like, tree)


def cast(tree: Tree, dtype: torch.dtype) -> Tree:
    """Floating-point leaves in another dtype; integers, keys and masks as they are.

    Args:
        tree: of tensors.
        dtype: a floating-point one.

    Returns:
        A tree of its structure.

    Raises:
        FuncregError: when dtype is not a floating-point one, or for a leaf that is not a tensor, by its name.

    >>> cast({"w": torch.ones(1), "n": torch.tensor(3)}, torch.float64)
    {'w': tensor([1.], dtype=torch.float64), 'n': tensor(3)}
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        _checks.fail("dtype", _checks.describe(dtype), "a floating-point dtype such as torch.float64")
    return _map_tensors(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree)


def to(tree: Tree, device: torch.device | str) -> Tree:
    """Every leaf on a device.

    Args:
        tree: of tensors.
        device: as torch names it.

    Returns:
        A tree of its structure.

    Raises:
        FuncregError: when torch does not know the device, or for a leaf that is not a tensor, by its name.

    >>> to({"w": torch.ones(1)}, "cpu")
    {'w': tensor([1.])}
    """
    _checks.check_device("device", device)
    check_tensors("tree", tree)
    return _map_tensors(lambda leaf: leaf.to(device), tree)


def clone(tree: Tree) -> Tree:
    """Copies that share no storage with the leaves and carry no gradient history.

    Args:
        tree: of tensors.

    Returns:
        A tree of its structure.

    Raises:
        FuncregError: for a leaf that is not a tensor, by its name.

    >>> clone({"w": torch.ones(1)})
    {'w': tensor([1.])}
    """
    return _map_tensors(lambda leaf: leaf.detach().clone(), tree)


def count(tree: Tree) -> int:
    """How many numbers a tree of tensors holds.

    Args:
        tree: of tensors.

    Returns:
        The number of all elements of all leaves.

    Raises:
        FuncregError: for a leaf that is not a tensor, by its name.

    >>> count({"w": torch.zeros(3, 4), "b": torch.zeros(4)})
    16
    """
    return sum(leaves(_map_tensors(lambda leaf: leaf.numel(), tree)))


def _map_tensors(function: Callable[[Tensor], Any], tree: Tree) -> Tree:
    """`map` over tensors. What is no tensor is looked for only when the function failed, so that it costs nothing."""
    try:
        return map(function, tree)
    except (AttributeError, TypeError):
        check_tensors("tree", tree)
        raise
    except NotImplementedError:
        map_named(_check_values, tree)
        raise


def _check_values(name: str, leaf: Tensor) -> None:
    if leaf.is_meta:
        _checks.fail(entry("tree", name), _checks.describe(leaf), "a tensor with values")

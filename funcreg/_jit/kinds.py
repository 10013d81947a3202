"""What a program depends on, and what was made for it before."""

import contextlib
import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import optree
import torch
from torch import Tensor

T = TypeVar("T")

_IN_ORDER = "funcreg, dicts in order"
_for_good = contextlib.ExitStack()
_for_good.enter_context(optree.dict_insertion_ordered(True, namespace=_IN_ORDER))


def flattened(arguments: Any) -> tuple[list[Any], Any]:
    """Leaves, and a structure which tells dicts apart by the order of their keys, as a function can.

    >>> flattened({"a": 1, "b": 2})[1] == flattened({"b": 1, "a": 2})[1]
    False
    """
    return optree.tree_flatten(arguments, namespace=_IN_ORDER)


def as_data(leaf: Any, device: torch.device | None = None) -> Any:
    """A Python number as a 0-d tensor: float64, which changes no tensor's dtype and loses no digit; on a device."""
    if isinstance(leaf, Tensor):
        return leaf if device is None else leaf.to(device)
    if not isinstance(leaf, bool | int | float):
        return leaf
    # A fill, since a copy to a GPU would wait for it.
    return torch.full((), leaf, dtype=torch.float64 if isinstance(leaf, float) else None, device=device)


def as_argument(leaf: Any) -> Any:
    """What a program takes for a leaf of its arguments: tensors for numbers, and for NumPy's.

    >>> as_argument(2), as_argument("mean")
    (tensor(2), 'mean')
    """
    if type(leaf).__module__ == "numpy" and getattr(getattr(leaf, "dtype", None), "kind", "") in tuple("biufc"):
        return torch.tensor(leaf)  # a copy, since an array may be written to, or read alone
    return as_data(leaf)


def kind_of(arguments: Any) -> Hashable:
    """All that a program depends on but values: a tree's structure, its tensors' layouts, and torch's modes.

    >>> kind_of({"x": torch.zeros(2)}) == kind_of({"x": torch.ones(2)}) != kind_of({"x": torch.ones(3)})
    True
    """
    leaves, structure = flattened(arguments)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    devices = sorted({leaf.device.type for leaf in tensors if not leaf.is_meta})
    casts = [(name, torch.get_autocast_dtype(name)) for name in devices if torch.is_autocast_enabled(name)]
    kinds = (
        (leaf.shape, leaf.dtype, leaf.device, leaf.stride()) if isinstance(leaf, torch.Tensor) else type(leaf)
        for leaf in leaves
    )
    return structure, torch.is_grad_enabled(), *casts, *kinds


def remembered(owner: Any, kind: Hashable, make: Callable[[], T]) -> T:
    """What was made for a function and a kind of arguments before, or is now; of the last few functions.

    >>> remembered(abs, 1, lambda: "made"), remembered(abs, 1, lambda: "made again")
    ('made', 'made')
    """
    known = _known(owner)
    if kind not in known:
        known[kind] = make()
    return known[kind]


@functools.lru_cache(maxsize=16)
def _known(owner: Any) -> dict[Hashable, Any]:
    return {}

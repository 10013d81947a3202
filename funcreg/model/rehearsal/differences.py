"""Whether two tensors or two results of a call are the same, and how they differ, in words."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_CLOSE = {torch.float16: 2e-2, torch.bfloat16: 5e-2}  # relative to the largest value

RETURNS_ELSE = "it returns something else"


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values, NaN included.

    >>> same_values(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]))
    True
    """
    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    if one.layout != torch.strided or one.is_quantized or one.is_meta:
        return True
    if torch.equal(one, other):
        return True
    return bool(((one == other) | ((one != one) & (other != other))).all())


def difference(one: Any, other: Any, *, values: bool = True, repeated: bool = False) -> str:
    """How the second differs by more than rounding; "" where it does not.

    Args:
        one, other: what a layer gave in two runs.
        values: whether they are to have the same values too, beside structure, shapes and dtypes.
        repeated: whether they come from the same run twice, which differs by the order of sums at most.

    >>> difference((torch.ones(2), None), (torch.zeros(2), None))
    'its output has other values'
    """
    leaves, structure = pytree.tree_flatten(one)
    others, other_structure = pytree.tree_flatten(other)
    if structure != other_structure:
        return RETURNS_ELSE
    if not values:
        return ""
    for a, b in zip(leaves, others, strict=True):
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            return "its output has another shape or dtype"
        if a.layout == torch.strided and not (a.is_quantized or a.is_meta) and not _close(a, b, repeated):
            return "its output has other values"
    return ""


def _close(one: Tensor, other: Tensor, repeated: bool) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    scale = float(one.detach().abs().nan_to_num(0.0, 0.0).max()) if one.numel() else 0.0
    close = torch.finfo(one.dtype).eps ** 0.75 if repeated else _CLOSE.get(one.dtype, 1e-3)
    return torch.allclose(one, other, rtol=close, atol=close * (scale + 1e-6), equal_nan=True)

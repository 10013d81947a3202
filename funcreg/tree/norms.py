"""Euclidean norms: of a tree, of parts and slices of it, and what is divided by them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks
from .._compiling import is_compiling
from .._functorch import readable
from .._jit import known_number
from .checks import check_floating
from .structure import Tree, entry, leaves, map_named, names
from .values import precise, widest


def norm(tree: Tree) -> Tensor:
    """The Euclidean norm of all leaves together; its gradient at zero is zero. No square of a float32 is lost.

    Args:
        tree: of floating-point tensors; an empty one has norm 0.

    Returns:
        A tensor of shape (), in float32 for 16-bit leaves, in the widest of the leaves' dtypes otherwise.

    Raises:
        FuncregError: for a leaf that is not a floating-point tensor, by its name.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor(5.)
    """
    check_floating("tree", tree)
    flat = leaves(tree)
    if not flat:
        return torch.zeros(())
    dtype = widest(flat)
    try:
        return length_of(flat, dtype)
    except RuntimeError:
        map_named(lambda name, leaf: _checks.check_beside(entry("tree", name), leaf, flat[0], names(tree)[0]), tree)
        raise


def length_of(
    parts: Sequence[Tensor], dtype: torch.dtype, dim: int | tuple[int, ...] | None = None, *, keepdim: bool = False
) -> Tensor:
    """The Euclidean norm of parts together, along some axes; right also where float32 does not hold the squares.

    In float32, and anew in float64, which takes longer, where they are too large or too small for it, or cannot be
    read. No derivative is infinite: those of any order are 0 where the norm is.

    >>> length_of([torch.tensor([3e-30, 4e-30])], torch.float32), length_of([torch.tensor([3e30, 4e30])], torch.float32)
    (tensor(5.0000e-30), tensor(5.0000e+30))
    """
    if not is_compiling():
        each = [torch.linalg.vector_norm(part, dim=dim, keepdim=keepdim, dtype=dtype) for part in parts]
        norms = torch.stack(each)
        values = readable(norms)
        if values is not None and _hold_squares(values):
            return each[0] if len(each) == 1 else torch.linalg.vector_norm(norms, dim=0)
    squares = [part.to(torch.float64).square() for part in parts]
    total = torch.stack([each.sum() if dim is None else each.sum(dim, keepdim) for each in squares]).sum(dim=0)
    zero = total == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, total).sqrt()).to(dtype)


def length(x: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """The Euclidean norm along some axes, or all, kept with length 1, as `length_of`; in at least float32.

    >>> length(torch.tensor([[3e30, 4e30], [0.0, 0.0]]), 1)
    tensor([[5.0000e+30],
            [0.0000e+00]])
    """
    return precise(x).abs() if dim == () else length_of([x], widest([x]), dim, keepdim=True)


def _hold_squares(norms: Tensor) -> bool:
    """Whether norms are so large, that their squares are normal float32 numbers; or NaN."""
    return not bool(((norms < 1e-12) | norms.isinf()).any())


def over_norm(part: float | Tensor, norm: Tensor) -> Tensor:
    """`part / norm`, part where the norm is 0, or subnormal; NaN of an infinite one, where 0 would look right.

    >>> over_norm(6.0, torch.tensor([3.0, 0.0, torch.inf]))
    tensor([2., 6., nan])
    """
    value = known_number(norm)
    if value is not None and torch.finfo(norm.dtype).tiny <= value < torch.inf:
        return part / norm
    return part / torch.where(norm.isinf(), torch.nan, torch.where(norm < torch.finfo(norm.dtype).tiny, 1.0, norm))


def without_scale(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """x over its largest size along some axes, a constant: squares of the same direction, none of them 0 or infinite.

    >>> without_scale(torch.tensor([3e-30, -4e-30]), 0)
    tensor([ 0.7500, -1.0000])
    """
    if not x.numel():
        return x
    largest = x.detach().abs().amax(dim=dim, keepdim=True)
    return x / torch.where((largest > 0) & largest.isfinite(), largest, 1.0)

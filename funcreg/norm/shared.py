"""What all of `norm` shares: checks of vectors, scale and shift, how running statistics move."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .. import _checks, _jit


def check_vectors(vectors: Mapping[str, Tensor | None], x: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Refuse what is neither None nor floating-point of one shape, that of `what`, and beside x."""
    for name, vector in vectors.items():
        if vector is None:
            continue
        _checks.check_floating(name, vector)
        if vector.shape != shape:
            _checks.fail(name, _checks.describe(vector), f"shape {tuple(shape)}, {what}")
        _checks.check_beside(name, vector, x, "x")


def inverse_root(variance: Tensor, eps: float | Tensor) -> Tensor:
    """`1 / sqrt(variance + eps)`; NaN of an infinite variance, where squares overflowed and 0 would look right.

    >>> inverse_root(torch.tensor([3.0, torch.inf]), 1.0)
    tensor([0.5000,    nan])
    """
    return torch.rsqrt(torch.where(variance.isinf(), torch.nan, variance) + eps)


def without_overflow(y: Tensor, inverse_root: Tensor) -> Tensor:
    """What a kernel of torch's gives, NaN where its inverse root, which broadcasts with it, is 0.

    On a GPU as it is, where a look would wait, and another pass take as long as the kernel.

    >>> without_overflow(torch.zeros(2), torch.tensor([0.5, 0.0]))
    tensor([0., nan])
    """
    roots = _jit.known(inverse_root)
    if not _jit.compiling() and (roots is None or bool((roots != 0).all())):
        return y
    return torch.where(inverse_root == 0, torch.nan, y)


def affine(y: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """`y * scale + shift`, each if there is one.

    >>> affine(torch.ones(2), torch.tensor([2.0, 3.0]), None)
    tensor([2., 3.])
    """
    y = y if scale is None else y * scale
    return y if shift is None else y + shift


def moved(old: Tensor, new: Tensor, momentum: float | Tensor) -> Tensor:
    """`(1 - momentum) * old + momentum * new`, in old's dtype: exact for 0 and 1, however far apart the two are.

    >>> moved(torch.tensor([1e8]), torch.tensor([0.25]), 1.0)
    tensor([0.2500])
    """
    return ((1 - momentum) * old.to(new.dtype) + momentum * new).to(old.dtype)

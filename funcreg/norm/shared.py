"""What all of `norm` shares: checks of vectors, scale and shift, how running statistics move."""

from collections.abc import Mapping

from torch import Tensor

from .. import _checks


def check_vectors(vectors: Mapping[str, Tensor | None], x: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Refuse what is neither None nor floating-point of one shape, that of `what`, and beside x."""
    for name, vector in vectors.items():
        if vector is None:
            continue
        _checks.check_floating(name, vector)
        if vector.shape != shape:
            _checks.fail(name, _checks.describe(vector), f"shape {tuple(shape)}, {what}")
        _checks.check_beside(name, vector, x, "x")


def affine(y: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """`y * scale + shift`, each if there is one.

    >>> import torch
    >>> affine(torch.ones(2), torch.tensor([2.0, 3.0]), None)
    tensor([2., 3.])
    """
    y = y if scale is None else y * scale
    return y if shift is None else y + shift


def moved(old: Tensor, new: Tensor, momentum: float | Tensor) -> Tensor:
    """`(1 - momentum) * old + momentum * new`, in old's dtype: exact for 0 and 1, however far apart the two are.

    >>> import torch
    >>> moved(torch.tensor([1e8]), torch.tensor([0.25]), 1.0)
    tensor([0.2500])
    """
    return ((1 - momentum) * old.to(new.dtype) + momentum * new).to(old.dtype)

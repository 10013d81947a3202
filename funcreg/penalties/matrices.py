"""Penalties of weight matrices: of all singular values, or of the largest.

A kernel is the matrix (out, in * height * width). Both are functions of the smaller Gram matrix,
W W^T or W^T W, whose eigenvalues are the squared singular values.
"""

import torch
from torch import Tensor

from .. import tree
from ..tree.values import in_own_precision
from . import core


def orthogonality(params: tree.Tree, strength: float | Tensor, *, mask: tree.Mask | None = None) -> Tensor:
    """Soft orthogonality: `strength * sum ||W W^T - I||_F**2`, with W^T W where W has more rows than columns.

    It is `strength * sum (sigma**2 - 1)**2` over the singular values, and 0 when all of them are 1.

    Args:
        params: a tree of floating-point tensors.
        strength: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks leaves of at least two axes. Default: every such leaf.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when strength is negative, mask picks nothing, or a leaf is not floating-point or
            has fewer than two axes (the message names the leaf).

    >>> orthogonality({"weight": torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])}, 0.1)  # 0.1 * (4 - 1)**2
    tensor(0.9000)

    Brock, Lim, Ritchie and Weston, "Neural photo editing with introspective adversarial networks", ICLR 2017.
    """
    grams = _grams(params, mask)
    eyes = [torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device) for gram in grams]
    terms = [(gram - eye).square().sum() for gram, eye in zip(grams, eyes, strict=True)]
    return core.scaled("strength", strength, terms)


def spectral(params: tree.Tree, strength: float | Tensor, *, mask: tree.Mask | None = None) -> Tensor:
    """Spectral-norm penalty: `strength * sum sigma_max(W)**2`, exact.

    The paper has a 1/2, and estimates sigma_max by power iteration, from below. Where two singular
    values are the largest, the gradient is that of one of them, and there is no second derivative.

    Args:
        params: a tree of floating-point tensors.
        strength: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks leaves of at least two axes. Default: every such leaf.

    Returns:
        A tensor of shape (); NaN when a weight is not finite.

    Raises:
        FuncregError: when strength is negative, mask picks nothing, or a leaf is not floating-point or
            has fewer than two axes (the message names the leaf).

    >>> spectral({"weight": torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])}, 0.1)
    tensor(0.4000)

    Yoshida and Miyato, "Spectral norm regularization for improving the generalizability of deep
    learning", arXiv:1705.10941, 2017.
    """
    return core.scaled("strength", strength, [_largest(gram) for gram in _grams(params, mask)])


def _largest(gram: Tensor) -> Tensor:
    """The largest eigenvalue, 0 of none; NaN for a matrix that is not finite, for which LAPACK would raise."""
    if not gram.numel():
        return gram.sum()
    finite = torch.isfinite(gram).all()
    return torch.where(finite, torch.linalg.eigvalsh(torch.where(finite, gram, 0.0))[-1], torch.nan)


def _grams(params: tree.Tree, mask: tree.Mask | None) -> list[Tensor]:
    """The smaller Gram matrix of each selected leaf."""
    return [_gram(leaf.flatten(1)) for _, leaf in core.selected(params, mask, axes=2)]


@in_own_precision
def _gram(matrix: Tensor) -> Tensor:
    return matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix

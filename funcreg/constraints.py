"""Constraints: `(params, ...) -> params`, to be applied to the parameters after an optimizer's step.

Each moves the leaves that it selects to the nearest point, in Euclidean distance, where the constraint
holds; what satisfies it already, and what the mask leaves out, comes back as it is. Those of matrices
take leaves of two axes or more, a convolution's kernel as the matrix (out, in * height * width), and by
default select every such leaf. 16-bit leaves are computed in float32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks, tree
from .tree.checks import selected
from .tree.norms import length, over_norm, without_scale
from .tree.values import in_own_precision, precise

__all__ = ["max_norm", "non_negative", "spectral_ball", "unit_norm"]


def max_norm(params: tree.Tree, maximum: float | Tensor, *, mask: tree.Mask | None = None, dim: int = 0) -> tree.Tree:
    """Shrink to a maximum every slice that is longer: `w * min(1, maximum / ||w||)`, for each slice along an axis.

    As `torch.renorm`, but to exactly the maximum: there the norm gets 1e-7 added.

    Args:
        params: a tree of floating-point tensors.
        maximum: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks leaves of at least two axes. Default: every such leaf.
        dim: the axis whose slices are bounded: with 0 the weights into each output unit or filter.

    Returns:
        A tree like params.

    Raises:
        FuncregError: when maximum is negative, mask picks nothing, a leaf is not floating-point or has
            fewer than two axes (the message names the leaf), or none has the axis dim.

    >>> max_norm({"weight": torch.tensor([[3.0, 4.0], [0.3, 0.4]]), "bias": torch.tensor([9.0])}, 1.0)
    {'weight': tensor([[0.6000, 0.8000], [0.3000, 0.4000]]), 'bias': tensor([9.])}

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout", JMLR 2014.
    """
    maximum = _checks.check_setting("maximum", maximum)

    def shrink(weight: Tensor) -> Tensor:
        norm = _slice_norms(weight, dim)
        long = ~(norm <= maximum)  # a maximum of NaN, too, is to be seen
        return weight * torch.where(long, over_norm(maximum, torch.where(long, norm, 1.0)), 1.0)

    return _project(params, mask, shrink)


def unit_norm(params: tree.Tree, *, mask: tree.Mask | None = None, dim: int = 0) -> tree.Tree:
    """Scale every slice to norm 1: `w / ||w||`, for each slice along an axis. Slices of zeros stay zeros.

    Args:
        params: a tree of floating-point tensors.
        mask: (name, leaf) -> bool picks leaves of at least two axes. Default: every such leaf.
        dim: the axis whose slices are scaled: with 0 the weights into each output unit or filter.

    Returns:
        A tree like params.

    Raises:
        FuncregError: when mask picks nothing, a leaf is not floating-point or has fewer than two axes
            (the message names the leaf), or none has the axis dim.

    >>> unit_norm({"weight": torch.tensor([[3.0, 4.0], [0.0, 0.0]])})
    {'weight': tensor([[0.6000, 0.8000], [0.0000, 0.0000]])}

    Salimans and Kingma, "Weight normalization", NeurIPS 2016, is its use in training.
    """

    def scale(weight: Tensor) -> Tensor:
        weight = without_scale(weight, _others(weight, dim))
        return over_norm(weight, _slice_norms(weight, dim))

    return _project(params, mask, scale)


def non_negative(params: tree.Tree, *, mask: tree.Mask | None = None) -> tree.Tree:
    """Zero what is negative: `max(w, 0)`.

    Args:
        params: a tree of floating-point tensors.
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.

    Returns:
        A tree like params.

    Raises:
        FuncregError: when mask picks nothing, or a leaf is not floating-point (the message names the leaf).

    >>> non_negative({"weight": torch.tensor([3.0, -4.0]), "bias": torch.tensor([-1.0])}, mask=tree.is_weight)
    {'weight': tensor([3., 0.]), 'bias': tensor([-1.])}
    """
    return _project(params, mask, lambda weight: weight.clamp(min=0.0), axes=0)


def spectral_ball(params: tree.Tree, radius: float | Tensor = 1.0, *, mask: tree.Mask | None = None) -> tree.Tree:
    """Bound the largest singular value, exactly: `U min(S, radius) V^T` of every weight `U S V^T`.

    `norm.spectral_norm`, which divides by an estimate from below, leaves norms above 1; this does not, at
    the price of a singular value decomposition. The first derivative is exact, also where singular values
    are equal; a second one is wrong, as it takes the singular vectors for constants.

    Args:
        params: a tree of floating-point tensors.
        radius: at least 0, a number or a tensor of shape ().
        mask: (name, leaf) -> bool picks leaves of at least two axes. Default: every such leaf.

    Returns:
        A tree like params; a weight that is not finite becomes NaN.

    Raises:
        FuncregError: when radius is negative, mask picks nothing, or a leaf is not floating-point or has
            fewer than two axes (the message names the leaf).

    >>> spectral_ball({"weight": torch.tensor([[3.0, 0.0], [0.0, 0.5]])})
    {'weight': tensor([[1.0000, 0.0000], [0.0000, 0.5000]])}

    Yoshida and Miyato, "Spectral norm regularization for improving the generalizability of deep
    learning", arXiv:1705.10941, 2017, is the penalty; Lefkimmiatis, Ward and Unser, "Hessian
    Schatten-norm regularization", IEEE TIP 2013, has the projection.
    """
    radius = _checks.check_setting("radius", radius)

    return _project(params, mask, lambda weight: _clipped(weight.flatten(1), radius).reshape(weight.shape))


@in_own_precision
def _clipped(matrix: Tensor, radius: float | Tensor) -> Tensor:
    """`U min(S, radius) V^T`, the matrix itself where that is all of S, and a derivative of its own.

    That of `svd` is infinite where two singular values are equal, as in a weight of zeros or an orthogonal one.
    Here `change`, a zero with the weight's derivative, loses the derivative of `U h(S) V^T`, h(s) = max(s - radius,
    0), whose coefficients are the finite quotients (h_i -+ h_j) / (s_i -+ s_j), for the symmetric and the skew part.
    """
    fixed = matrix.detach()
    finite = torch.isfinite(fixed).all()  # LAPACK would raise
    u, s, vh = torch.linalg.svd(torch.where(finite, fixed, 0.0), full_matrices=False)
    h = (s - radius).clamp(min=0.0)
    # Not the matrix less what is above, of which little would be left that is exact where it is far above.
    clipped = (u * torch.minimum(s, torch.as_tensor(radius, dtype=s.dtype, device=s.device))) @ vh
    value = torch.where((h == 0).all() & finite, fixed, clipped)

    change = matrix - fixed
    left, right = u.mT @ change, change @ vh.mT
    inner = left @ vh.mT
    both = (h[:, None] > 0) & (h > 0)
    minus = torch.where(both, 1.0, _share((h[:, None] - h).abs(), (s[:, None] - s).abs()))
    plus, alone = _share(h[:, None] + h, s[:, None] + s), _share(h, s)
    middle = minus * (inner + inner.mT) / 2 + plus * (inner - inner.mT) / 2
    middle = middle - alone[:, None] * inner - inner * alone
    return value + change - u @ middle @ vh - u @ (alone[:, None] * left) - (right * alone) @ vh


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where part is."""
    return part / torch.where(part == 0, 1.0, whole)


def _slice_norms(weight: Tensor, dim: int) -> Tensor:
    """The norm of each slice along an axis, the other axes kept with length 1."""
    return length(weight, _others(weight, dim))


def _others(weight: Tensor, dim: int) -> tuple[int, ...]:
    """All axes but one."""
    _checks.check_count("dim", dim, -weight.ndim, weight.ndim - 1)
    return tuple(axis for axis in range(weight.ndim) if axis != dim % weight.ndim)


def _project(
    params: tree.Tree, mask: tree.Mask | None, function: Callable[[Tensor], Tensor], *, axes: int = 2
) -> tree.Tree:
    """A function of the selected leaves, which must be floating-point and have so many axes."""
    chosen = {name for name, _ in selected("params", params, mask, axes=axes)}

    def move(name: str, leaf: Tensor) -> Tensor:
        if name not in chosen:
            return leaf
        return function(precise(leaf)).to(leaf.dtype)

    return tree.map_named(move, params)

"""Muon's direction: the matrix with the same singular vectors, and singular values near 1."""

import math

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.norms import length, over_norm
from ..tree.structure import entry
from ..tree.values import in_own_precision
from . import core
from .core import Transform

# Of the quintic a x + b x**3 + c x**5, whose slope at 0 is as large as 5 rounds allow (Jordan 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_FACTORS = {
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(rows / columns),
}


def orthogonalize(
    steps: int = 5, *, adjust: str = "original", eps: float = 1e-7, dtype: torch.dtype | None = None
) -> Transform:
    """Every matrix by one of the same singular vectors, whose singular values are all about 1.

    Rounds of the Newton-Schulz iteration x = a x + b (x x') x + c (x x')**2 x, from x = g / ||g||, and a factor
    for the shape; five leave values of x above 0.01 within [0.68, 1.14]. A leaf of more axes is the matrix (first
    axis, all others), as a convolution's filters are. It is the direction of `torch.optim.Muon`, whose products are in
    bfloat16.

    Args:
        steps: rounds, at least 1.
        adjust: the factor for (rows, columns): "original" sqrt(max(1, rows / columns)), "match_rms_adamw"
            0.2 sqrt(max(rows, columns)), with which AdamW's learning rates fit, "spectral" sqrt(rows / columns).
        eps: at least 0; the least norm that g is divided by.
        dtype: of the products. Default: the gradient's, at least float32; bfloat16 is quicker on a GPU, and rough.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: for an argument out of range; from init, for a leaf of less than two axes.

    >>> g = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    >>> updates, _ = orthogonalize().update({"w": g}, (), {"w": g})
    >>> updates
    {'w': tensor([[1.1171, 0.0000],
            [0.0000, 0.6821]])}

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
    (kellerjordan.github.io/posts/muon). The factor of AdamW: Liu et al. 2025 (arXiv:2502.16982).
    """
    _checks.check_count("steps", steps)
    _checks.check_choice("adjust", adjust, list(_FACTORS))
    eps = _checks.check_setting("eps", eps)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        _checks.fail("dtype", _checks.describe(dtype), "a floating-point dtype such as torch.bfloat16, or None")

    def init(params: tree.Tree) -> tuple[()]:
        for name, leaf in tree.select(params, None):
            if leaf.ndim < 2:
                remedy = "Leave it to another transform: fr.transforms.partition, as fr.optim.muon does."
                _checks.fail(entry("params", name), _checks.describe(leaf), "a matrix", remedy)
        return ()

    @in_own_precision
    def direction(g: Tensor) -> Tensor:
        x = g.flatten(1)
        rows, columns = x.shape
        x = x if rows <= columns else x.mT
        x = over_norm(x, length(x).clamp(min=eps)).to(g.dtype if dtype is None else dtype)
        for _ in range(steps):
            gram = x @ x.mT
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
        x = x if rows <= columns else x.mT
        return (x * _FACTORS[adjust](rows, columns)).to(g.dtype).reshape(g.shape)

    def update(grads: tree.Tree, params: tree.Tree) -> tree.Tree:
        return tree.map(direction, grads)

    return core.stateless(update, init)

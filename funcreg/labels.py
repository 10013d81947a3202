"""Targets: class indices as vectors, softer ones, and weights for classes that are rare."""

import math

import torch
from torch import Tensor

from . import _checks
from .losses.classes import as_classes, as_distributions, check_integers
from .tree.values import precise

__all__ = ["class_weights", "one_hot", "optimal_logit_gap", "smooth_labels"]


def one_hot(targets: Tensor, num_classes: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices as vectors: 1 at the class, 0 elsewhere.

    Args:
        targets: integers (...) in [0, num_classes).
        num_classes: C, at least 1.
        dtype: of the result.

    Returns:
        dtype, (..., C).

    Raises:
        FuncregError: when targets are not such integers, or num_classes is below 1. In a compiled program,
            and on a GPU, what is no class gives a row of NaN instead, of -1 in an integer dtype.

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    _check_classes(targets, num_classes)
    if not isinstance(dtype, torch.dtype):
        _checks.fail("dtype", _checks.describe(dtype), "a torch.dtype")
    index, share = as_classes(targets, num_classes)
    rows = (index.unsqueeze(-1) == torch.arange(num_classes, device=targets.device)).to(dtype)
    if share is None:
        return rows
    no_class = torch.full((), math.nan if dtype.is_floating_point else -1, device=targets.device).to(dtype)
    return torch.where(share.unsqueeze(-1).isnan(), no_class, rows)


def smooth_labels(targets: Tensor, smoothing: float | Tensor) -> Tensor:
    """Label smoothing: `(1 - smoothing) * targets + smoothing / C`.

    `fr.losses.cross_entropy(..., smoothing=)` does it by itself.

    Args:
        targets: probabilities (..., C), floating-point, which sum to 1.
        smoothing: in [0, 1], a number or a tensor of shape (); 1 gives 1 / C everywhere.

    Returns:
        targets' shape and dtype.

    Raises:
        FuncregError: when targets are not floating-point (..., C), or they or smoothing are not in [0, 1], or a row
            does not sum to 1. In a compiled program, and on a GPU, such a target becomes NaN instead.

    >>> smooth_labels(torch.tensor([0.0, 1.0, 0.0, 0.0]), 0.1)
    tensor([0.0250, 0.9250, 0.0250, 0.0250])

    Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.
    """
    _checks.check_tensor("targets", targets)
    if not targets.is_floating_point() or targets.ndim == 0 or not targets.shape[-1]:
        allowed, remedy = "floating-point (..., C), C at least 1", "Class indices: fr.labels.one_hot(targets, C)."
        _checks.fail("targets", _checks.describe(targets), allowed, remedy)
    smoothing = _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    shares = as_distributions(targets, precise(targets).dtype)
    return ((1 - smoothing) * shares + smoothing / targets.shape[-1]).to(targets.dtype)


def optimal_logit_gap(smoothing: float | Tensor, num_classes: int) -> Tensor:
    """How far the right logit is above the others at the optimum of the smoothed loss: `log(1 + C (1 - s) / s)`.

    There softmax(logits) equals the smoothed targets. It is 4.51 for 0.1 and 10 classes; where smoothing
    means `s / (C - 1)` for each wrong class, it is `log((1 - s) (C - 1) / s)`, 4.39.

    Args:
        smoothing: s in [0, 1], a number or a tensor of shape (); the gap at 0 is infinite.
        num_classes: C, at least 2.

    Returns:
        A tensor of shape (), in smoothing's dtype, at least float32.

    Raises:
        FuncregError: when smoothing is not in [0, 1], or num_classes is below 2.

    >>> optimal_logit_gap(0.1, 10)
    tensor(4.5109)
    """
    smoothing = _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    _checks.check_count("num_classes", num_classes, 2)
    s = precise(torch.as_tensor(smoothing))
    return torch.log1p(num_classes * (1 - s) / s)


def class_weights(targets: Tensor, num_classes: int, *, ignore_index: int | None = -100) -> Tensor:
    """Weights that give every class the same say: `N / (C * n_c)`, n_c the targets of class c; 0 where there are none.

    They average 1 over the targets when every class is there. For `fr.losses.cross_entropy(..., weight=)`.

    Args:
        targets: integers in [0, num_classes), of any shape, N in all.
        num_classes: C, at least 1.
        ignore_index: a target that is not counted, neither in N; None for no such one.

    Returns:
        float32 (C,).

    Raises:
        FuncregError: when targets are not such integers, or num_classes is below 1. In a compiled program,
            and on a GPU, a target that is no class makes all weights NaN instead.

    >>> class_weights(torch.tensor([0, 0, 0, 1]), 3)
    tensor([0.4444, 1.3333, 0.0000])

    King and Zeng, "Logistic regression in rare events data", Political Analysis 2001.
    """
    _check_classes(targets, num_classes)
    index, share = as_classes(targets.flatten(), num_classes, ignore_index)
    counted = torch.ones_like(index) if share is None else (share != 0).to(torch.int64)
    # Not bincount, which has no rule for vmap.
    counts = torch.zeros(num_classes, dtype=torch.int64, device=index.device).scatter_add(0, index, counted)
    weights = counted.sum() / (num_classes * counts.clamp(min=1).to(torch.float64))
    weights = torch.where(counts > 0, weights, 0.0).to(torch.float32)
    return weights if share is None else torch.where(share.isnan().any(), torch.nan, weights)


def _check_classes(targets: Tensor, num_classes: int) -> None:
    check_integers(targets)
    _checks.check_count("num_classes", num_classes)

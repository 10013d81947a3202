"""Targets: class indices as vectors, softer ones, and weights for classes that are rare."""

import torch
from torch import Tensor

from . import _checks
from .losses.reductions import precise


def one_hot(targets: Tensor, num_classes: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices as vectors: 1 at the class, 0 elsewhere.

    Args:
        targets: integers (...) in [0, num_classes); any other gives a row of zeros.
        num_classes: C, at least 1.
        dtype: of the result.

    Returns:
        dtype, (..., C).

    Raises:
        FuncregError: when targets are not integers, or num_classes is below 1.

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    _check_classes(targets, num_classes)
    if not isinstance(dtype, torch.dtype):
        _checks.fail("dtype", _checks.describe(dtype), "a torch.dtype")
    return (targets.unsqueeze(-1) == torch.arange(num_classes, device=targets.device)).to(dtype)


def smooth_labels(targets: Tensor, smoothing: float | Tensor) -> Tensor:
    """Label smoothing: `(1 - smoothing) * targets + smoothing / C`.

    `fr.losses.cross_entropy(..., smoothing=)` does it by itself.

    Args:
        targets: probabilities (..., C), floating-point.
        smoothing: in [0, 1], a number or a tensor of shape (); 1 gives 1 / C everywhere.

    Returns:
        targets' shape and dtype.

    Raises:
        FuncregError: when targets are not floating-point (..., C), or smoothing is not in [0, 1].

    >>> smooth_labels(torch.tensor([0.0, 1.0, 0.0, 0.0]), 0.1)
    tensor([0.0250, 0.9250, 0.0250, 0.0250])

    Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.
    """
    _checks.check_tensor("targets", targets)
    if not targets.is_floating_point() or targets.ndim == 0:
        remedy = "Class indices: fr.labels.one_hot(targets, num_classes)."
        _checks.fail("targets", _checks.describe(targets), "floating-point probabilities (..., C)", remedy)
    _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    return ((1 - smoothing) * precise(targets) + smoothing / targets.shape[-1]).to(targets.dtype)


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
    _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    _checks.check_count("num_classes", num_classes, 2)
    s = precise(torch.as_tensor(smoothing))
    return torch.log1p(num_classes * (1 - s) / s)


def class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Weights that give every class the same say: `N / (C * n_c)`, n_c the targets of class c; 0 where there are none.

    They average 1 over the targets when every class is there. For `fr.losses.cross_entropy(..., weight=)`.

    Args:
        targets: integers in [0, num_classes), of any shape, N in all.
        num_classes: C, at least 1.

    Returns:
        float32 (C,).

    Raises:
        FuncregError: when targets are not integers, or num_classes is below 1.

    >>> class_weights(torch.tensor([0, 0, 0, 1]), 3)
    tensor([0.4444, 1.3333, 0.0000])

    King and Zeng, "Logistic regression in rare events data", Political Analysis 2001.
    """
    _check_classes(targets, num_classes)
    flat = targets.flatten().to(torch.int64)
    # Not bincount, which has no rule for vmap.
    counts = torch.zeros(num_classes, dtype=torch.int64, device=flat.device).scatter_add(0, flat, torch.ones_like(flat))
    weights = flat.shape[0] / (num_classes * counts.clamp(min=1).to(torch.float64))
    return torch.where(counts > 0, weights, 0.0).to(torch.float32)


def _check_classes(targets: Tensor, num_classes: int) -> None:
    _checks.check_tensor("targets", targets)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        _checks.fail("targets", _checks.describe(targets), "integers", "Convert them: targets.long().")
    _checks.check_count("num_classes", num_classes)

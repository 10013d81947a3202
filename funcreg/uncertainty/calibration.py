"""Scores of probabilities against the classes that came true."""

import torch
from torch import Tensor

from .. import _checks
from ..losses.reductions import precise
from .predictive import check_probabilities

_REDUCTIONS = ("mean", "none")


def negative_log_likelihood(probabilities: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """`-log p_target`. A probability of 0 counts as the smallest normal number (87.3 nats in float32).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        reduction: "mean" over examples, or "none".

    Returns:
        A tensor of shape (), or (...) for "none", in nats.

    Raises:
        FuncregError: when the shapes do not fit.

    >>> negative_log_likelihood(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([1, 0]))
    tensor(0.3466)
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    chosen = _of_targets(probabilities, targets)
    return _reduce(-torch.log(chosen.clamp_min(torch.finfo(chosen.dtype).tiny)), reduction)


def brier(probabilities: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Brier's score: `sum_c (p_c - [c = target])**2`, from 0 (sure and right) to 2 (sure and wrong).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        reduction: "mean" over examples, or "none".

    Returns:
        A tensor of shape (), or (...) for "none".

    Raises:
        FuncregError: when the shapes do not fit.

    >>> brier(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([1, 0]))
    tensor(0.2500)

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    _of_targets(probabilities, targets)
    p = precise(probabilities)
    came_true = targets.unsqueeze(-1) == torch.arange(p.shape[-1], device=p.device)
    return _reduce(((p - came_true.to(p.dtype)) ** 2).sum(dim=-1), reduction)


def expected_calibration_error(probabilities: Tensor, targets: Tensor, *, bins: int = 15) -> Tensor:
    """How far confidence is from accuracy: `sum_b (n_b / n) |accuracy_b - confidence_b|`.

    Examples fall into bins of equal width by their largest probability; bin b is (b, b + 1] / bins.

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        bins: how many.

    Returns:
        A tensor of shape (), in [0, 1].

    Raises:
        FuncregError: when the shapes do not fit, or bins is not a positive integer.

    >>> expected_calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))
    tensor(0.3000)

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _of_targets(probabilities, targets)
    _checks.check_count("bins", bins)
    confidence, predicted = precise(probabilities).flatten(0, -2).max(dim=-1)
    excess = (predicted == targets.flatten()).to(confidence.dtype) - confidence
    which = (torch.ceil(confidence * bins) - 1).clamp(0, bins - 1)
    # Sums by comparison, (bins, n), rather than by scattering, which is not deterministic on a GPU.
    inside = which == torch.arange(bins, device=which.device).unsqueeze(-1)
    return torch.where(inside, excess, 0.0).sum(dim=-1).abs().sum() / confidence.numel()


def check_targets(targets: Tensor, shape: torch.Size) -> Tensor:
    """The targets as int64 (..., 1), after refusing what is not integers of a shape."""
    _checks.check_tensor("targets", targets)
    integers = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if not integers or targets.shape != shape:
        _checks.fail("targets", _checks.describe(targets), f"integers {tuple(shape)}")
    return targets.to(torch.int64).unsqueeze(-1)


def _reduce(scores: Tensor, reduction: str) -> Tensor:
    return scores.mean() if reduction == "mean" else scores


def _of_targets(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The probability of each target."""
    check_probabilities(probabilities)
    chosen = check_targets(targets, probabilities.shape[:-1])
    return precise(probabilities).gather(-1, chosen).squeeze(-1)

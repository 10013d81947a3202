"""Scores of probabilities against the classes that came true."""

import torch
from torch import Tensor

from .. import _checks
from ..losses.classes import Classes, as_classes, check_integers
from ..losses.reductions import reduce
from .predictive import as_probabilities

_REDUCTIONS = ("mean", "none")


def negative_log_likelihood(
    probabilities: Tensor, targets: Tensor, *, ignore_index: int | None = -100, reduction: str = "mean"
) -> Tensor:
    """`-log p_target`. A probability of 0 counts as the smallest normal number (87.3 nats in float32).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        ignore_index: a target that has no part; None for no such one.
        reduction: "mean" over examples, or "none".

    Returns:
        A tensor of shape (), or (...) for "none", in nats, 0 for an ignored target.

    Raises:
        FuncregError: when the shapes do not fit, a row is no distribution, or a target no class. In a compiled
            program, and on a GPU, such examples give NaN instead.

    >>> negative_log_likelihood(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([1, 0]))
    tensor(0.3466)
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    p, found = _checked(probabilities, targets, ignore_index)
    chosen = p.gather(-1, found.indices.unsqueeze(-1)).squeeze(-1)
    scores = -torch.log(chosen.clamp_min(torch.finfo(chosen.dtype).tiny))
    return reduce(found.counted(scores), reduction, found.share)


def brier(
    probabilities: Tensor, targets: Tensor, *, ignore_index: int | None = -100, reduction: str = "mean"
) -> Tensor:
    """Brier's score: `sum_c (p_c - [c = target])**2`, from 0 (sure and right) to 2 (sure and wrong).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        ignore_index: a target that has no part; None for no such one.
        reduction: "mean" over examples, or "none".

    Returns:
        A tensor of shape (), or (...) for "none", 0 for an ignored target.

    Raises:
        FuncregError: as `negative_log_likelihood`.

    >>> brier(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([1, 0]))
    tensor(0.2500)

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    p, found = _checked(probabilities, targets, ignore_index)
    came_true = found.indices.unsqueeze(-1) == torch.arange(p.shape[-1], device=p.device)
    scores = ((p - came_true.to(p.dtype)) ** 2).sum(dim=-1)
    return reduce(found.counted(scores), reduction, found.share)


def expected_calibration_error(
    probabilities: Tensor, targets: Tensor, *, bins: int = 15, ignore_index: int | None = -100
) -> Tensor:
    """How far confidence is from accuracy: `sum_b (n_b / n) |accuracy_b - confidence_b|`.

    Examples fall into bins of equal width by their largest probability; bin b is (b, b + 1] / bins.

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        bins: how many.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in [0, 1].

    Raises:
        FuncregError: as `negative_log_likelihood`, and when bins is not a positive integer.

    >>> expected_calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))
    tensor(0.3000)

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _checks.check_count("bins", bins)
    p, found = _checked(probabilities, targets, ignore_index)
    confidence, predicted = p.max(dim=-1)
    excess = found.counted((predicted == found.indices).to(p.dtype) - confidence).flatten()
    which = (torch.ceil(confidence * bins) - 1).clamp(0, bins - 1).nan_to_num(0.0).flatten()
    # Sums by comparison, (bins, n), rather than by scattering, which is not deterministic on a GPU.
    inside = which == torch.arange(bins, device=which.device).unsqueeze(-1)
    apart = torch.where(inside, excess, 0.0).sum(dim=-1).abs()
    return apart.sum() / (excess.numel() if found.share is None else found.share.sum().to(p.dtype))


def _checked(probabilities: Tensor, targets: Tensor, ignore_index: int | None) -> tuple[Tensor, Classes]:
    """Probabilities of at least float32, zeros where the target is ignored, and the targets."""
    p = as_probabilities(probabilities)
    check_integers(targets, p)
    found = as_classes(targets, p.shape[-1], ignore_index)
    return found.masked(p), found

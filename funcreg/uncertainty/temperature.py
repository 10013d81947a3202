"""Temperature scaling: one number that makes a classifier as sure as it is right."""

import math

import torch
from torch import Tensor

from .. import _checks
from .._jit import compiling
from ..losses.classes import Classes, as_classes, check_integers
from ..tree.values import precise

_BEYOND = 10.0  # of log T: so far out the probabilities are one-hot, or all alike
_SECTIONS = 7  # by which an interval of log T becomes 16,384 times as narrow
_NARROW = 0.05  # of log T: Newton's method is safe within


def fit_temperature(logits: Tensor, targets: Tensor, *, steps: int = 4, ignore_index: int | None = -100) -> Tensor:
    """The temperature T of `softmax(logits / T)` with the lowest negative log-likelihood.

    Take logits of examples that were not trained on. No prediction changes, only its confidence.
    The loss is convex in 1 / T: the signs of its slope, three at a time, find T to 5%, Newton's method
    the rest.

    Args:
        logits: floating-point (..., C); -inf, or any very low number, excludes a class.
        targets: integers (...) in [0, C).
        steps: of Newton's method, or bisections where that is not safe yet (logits that are 1e300 apart); 3 have
            sufficed for float64.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        T, a tensor of shape (), in float32 (float64 for float64 logits). It is e**-10 times the least
        difference, not 0, of a logit from its target's, where every prediction is right, and e**10
        times the largest, where they are worse than chance. Constant logits give 1; NaN, an excluded class that
        came true, and targets that are all ignored give NaN.

    Raises:
        FuncregError: when the shapes do not fit, there is no example, or a target is no class (in a compiled
            program, and on a GPU, T is NaN instead).

    >>> logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])  # right 3 times of 4
    >>> temperature = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
    >>> torch.softmax(logits[0] / temperature, dim=-1)
    tensor([0.7500, 0.2500])

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _checks.check_count("steps", steps)
    gaps, _, unknown = held_out(logits, targets, ignore_index)
    # Where a class is excluded, the least number has a derivative of 0 where -inf would have none.
    excluded = gaps == -torch.inf
    gaps = torch.where(excluded, torch.finfo(gaps.dtype).min, gaps)

    counts = ~excluded & (gaps != 0)
    constant = ~counts.any()
    least = torch.where(counts, gaps.abs(), torch.inf).amin()
    largest = torch.where(counts, gaps.abs(), 0.0).amax()
    most = math.log(torch.finfo(gaps.dtype).max) - 1
    bottom = (-_BEYOND - torch.where(constant, 1.0, largest).log()).clamp(-most, most)  # of log(1 / T)
    top = (_BEYOND - torch.where(constant, 1.0, least).log()).clamp(-most, most)
    low, high = bottom, top
    for _ in range(_SECTIONS):
        inner = low + (high - low) * torch.tensor([0.25, 0.5, 0.75], dtype=gaps.dtype, device=gaps.device)
        # A compiler fuses them; in eager mode each takes as much memory as the logits.
        several = torch.vmap(_slope, in_dims=(0, None)) if compiling() else _one_by_one
        falling = several(inner, gaps) <= 0
        low = torch.where(falling, inner, low).amax()
        high = torch.where(falling, high, inner).amin()
    at = (low + high) / 2
    for _ in range(steps):
        scaled, p, each = _moments(at, gaps)
        slope = each.sum()
        curvature = (p * torch.where(p == 0, 0.0, scaled - each) ** 2).sum()  # in 1 / T, times its square
        low, high = torch.where(slope <= 0, at, low), torch.where(slope <= 0, high, at)
        # Chosen before it is divided: the step not taken has no derivative that overflows.
        narrow = (high - low <= _NARROW) & (curvature > 0)
        newton = at - torch.where(narrow, slope, 0.0) / torch.where(narrow, curvature, 1.0)
        at = torch.where(narrow, newton.clamp(low, high), (low + high) / 2)
    at = torch.where(high == top, top, torch.where(low == bottom, bottom, at))  # no minimum
    return torch.where(unknown, torch.nan, torch.where(constant, 1.0, torch.exp(-at)))


def _moments(at: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At a log(1 / T): the scaled gaps, their probabilities, and the mean of each example, (..., 1)."""
    scaled = torch.exp(at) * gaps
    p = torch.softmax(scaled, dim=-1)
    return scaled, p, (p * torch.where(p == 0, 0.0, scaled)).sum(dim=-1, keepdim=True)


def _slope(at: Tensor, gaps: Tensor) -> Tensor:
    """Of the loss in log(1 / T): no term of a right prediction is above 0."""
    return _moments(at, gaps)[2].sum()


def _one_by_one(inner: Tensor, gaps: Tensor) -> Tensor:
    return torch.stack([_slope(at, gaps) for at in inner.unbind()])


def held_out(logits: Tensor, targets: Tensor, ignore_index: int | None) -> tuple[Tensor, Classes, Tensor]:
    """What a scaling is fitted to.

    Returns:
        How far each logit is above its target's, (..., C), at least float32, 0 where a target is ignored; the targets;
        and whether nothing can be fitted: NaN, an excluded class that came true, or no target that counts.

    >>> held_out(torch.tensor([[3.0, 1.0]]), torch.tensor([1]), None)[0]
    tensor([[2., 0.]])
    """
    _checks.check_floating("logits", logits)
    if logits.ndim == 0 or logits.numel() == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., C) of at least one example")
    check_integers(targets, logits)
    found = as_classes(targets, logits.shape[-1], ignore_index)
    rows = found.masked(precise(logits))
    gaps = rows - rows.gather(-1, found.indices.unsqueeze(-1))
    unknown = (gaps.isnan() | (gaps == torch.inf)).any()
    if found.share is not None:
        unknown = unknown | ~(found.share.sum() > 0)
    return gaps, found, unknown

"""Temperature scaling: one number that makes a classifier as sure as it is right."""

import torch
from torch import Tensor

from .. import _checks
from ..losses.reductions import precise
from .calibration import check_targets

_BOUND = 10.0  # of |log(T / spread)|: beyond it the probabilities are one-hot, or all alike
_NARROW = 0.05  # of log T: Newton's method is safe within


def fit_temperature(logits: Tensor, targets: Tensor, *, steps: int = 16) -> Tensor:
    """The temperature T of `softmax(logits / T)` with the lowest negative log-likelihood.

    Take logits of examples that were not trained on. No prediction changes, only its confidence.
    The loss is convex in 1 / T: bisections by the sign of its slope find T to 4%, Newton's method
    the rest.

    Args:
        logits: floating-point (..., C).
        targets: integers (...) in [0, C).
        steps: evaluations of the slope: 9 bisections, then Newton's, of which 3 have sufficed for float64.

    Returns:
        T, a tensor of shape (), in float32 (float64 for float64 logits). In units of the root mean
        square of `logits - logits[target]` it lies between e**-10, where it goes when every prediction
        is right, and e**10, when they are worse than chance. Constant logits give 1.

    Raises:
        FuncregError: when the shapes do not fit, or there is no example.

    >>> logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])  # right 3 times of 4
    >>> temperature = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
    >>> torch.softmax(logits[0] / temperature, dim=-1)
    tensor([0.7500, 0.2500])

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _checks.check_floating("logits", logits)
    if logits.ndim == 0 or logits.numel() == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., C) of at least one example")
    chosen = check_targets(targets, logits.shape[:-1])
    _checks.check_count("steps", steps)
    gaps = precise(logits) - precise(logits).gather(-1, chosen)
    spread = torch.sqrt((gaps**2).mean())
    gaps = gaps / torch.where(spread == 0, 1.0, spread)

    at = torch.zeros_like(spread)  # log(spread / T)
    low, high = at - _BOUND, at + _BOUND
    for _ in range(steps):
        inverse = torch.exp(at)
        p = torch.softmax(inverse * gaps, dim=-1)
        each = (p * gaps).sum(dim=-1)
        slope = each.mean()  # of the loss in 1 / T: no term of a right prediction is above 0
        curvature = (p * (gaps - each.unsqueeze(-1)) ** 2).sum(dim=-1).mean()
        low, high = torch.where(slope <= 0, at, low), torch.where(slope <= 0, high, at)
        newton = at - slope / (inverse * curvature).clamp_min(torch.finfo(slope.dtype).tiny)
        at = torch.where(high - low > _NARROW, (low + high) / 2, newton.clamp(low, high))
    return torch.where(spread == 0, 1.0, spread * torch.exp(-at))

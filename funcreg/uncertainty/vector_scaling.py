"""Vector scaling: a scale and a bias for each class that make a classifier as sure as it is right."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks
from ..tree.values import precise
from .temperature import fit_temperature, held_out

_LEAST, _MOST = 1e-9, 1e9  # of the damping, in units of the curvature
_SLACK = 1e-12  # of the loss: a step that changes it by rounding is taken, since Newton's method is best there


class VectorScaling(NamedTuple):
    """Calibrated logits are `scale * logits + bias`: (C,) each; the bias, which only counts up to a sum, sums to 0."""

    scale: Tensor
    bias: Tensor


def apply_vector_scaling(logits: Tensor, scaling: VectorScaling) -> Tensor:
    """`scale * logits + bias`; a class that is excluded by -inf stays so, whatever its scale.

    Args:
        logits: floating-point (..., C).
        scaling: what `fit_vector_scaling` returns.

    Returns:
        (..., C), in at least float32.

    Raises:
        FuncregError: when the shapes do not fit.

    >>> scaling = VectorScaling(scale=torch.tensor([2.0, 0.0]), bias=torch.tensor([1.0, -1.0]))
    >>> apply_vector_scaling(torch.tensor([[3.0, -torch.inf]]), scaling)
    tensor([[7., -inf]])
    """
    _checks.check_floating("logits", logits)
    if not isinstance(scaling, tuple) or len(scaling) != 2:
        _checks.fail("scaling", _checks.describe(scaling), "a VectorScaling", "Make one with fit_vector_scaling.")
    for name, each in zip(VectorScaling._fields, scaling, strict=True):
        _checks.check_floating(f"scaling's {name}", each)
        if logits.ndim == 0 or each.shape != logits.shape[-1:]:
            allowed = f"one number for each class of logits {tuple(logits.shape)}"
            _checks.fail(f"scaling's {name}", _checks.describe(each), allowed)
        _checks.check_beside(f"scaling's {name}", each, logits, "logits")
    scale, bias = scaling
    excluded = logits == -torch.inf
    return torch.where(excluded, -torch.inf, scale * torch.where(excluded, 0.0, precise(logits)) + bias)


def fit_vector_scaling(
    logits: Tensor, targets: Tensor, *, steps: int = 20, ignore_index: int | None = -100
) -> VectorScaling:
    """The scale and bias of `softmax(scale * logits + bias)` with the lowest negative log-likelihood.

    Take logits of examples that were not trained on: ten or more of each class. Unlike a temperature it may change
    predictions, and it depends on a constant that is added to an example's logits. The loss is convex: Newton's method,
    damped as by Levenberg and Marquardt, begins at the best temperature, and no step raises the loss.

    Args:
        logits: floating-point (..., C); -inf excludes a class.
        targets: integers (...) in [0, C).
        steps: of Newton's method; 6 have sufficed for float64.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        VectorScaling, in float32 (float64 for float64 logits; computed in float64). Where there is no minimum, because
        a class never came true or all can be told apart, it is where the steps ended. NaN, an excluded class that came
        true, and targets that are all ignored give NaN.

    Raises:
        FuncregError: as `fit_temperature`.

    >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    >>> scaling = fit_vector_scaling(logits, torch.tensor([0, 0, 0, 1, 0, 1]))  # right 3 times of 4, and of 2 once
    >>> torch.softmax(apply_vector_scaling(logits[3:5], scaling), dim=-1)
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _checks.check_count("steps", steps)
    _, found, unknown = held_out(logits, targets, ignore_index)
    start = 1 / fit_temperature(logits.to(torch.float64), targets, ignore_index=ignore_index)
    fit = _Fit.of(found.masked(logits.to(torch.float64)), found.indices, found.share)
    at = torch.stack((start.expand(logits.shape[-1]), torch.zeros_like(fit.logits[0])))
    damping = torch.full_like(start, 1e-3)
    for _ in range(steps):
        loss, after = fit.loss(at), at - fit.step(at, damping)
        after = torch.stack((after[0], after[1] - after[1].mean()))
        better = fit.loss(after) <= loss + _SLACK * (1 + loss)
        at = torch.where(better, after, at)
        damping = torch.where(better, damping / 10, damping * 10).clamp(_LEAST, _MOST)
    at = torch.where(unknown, torch.nan, at).to(precise(logits).dtype)
    return VectorScaling(at[0], at[1])


class _Fit(NamedTuple):
    """The loss of a scale and a bias, (2, C), and a damped step of Newton's method.

    logits: (n, C), 0 where excluded. allowed: (n, C). truth: (n, C), 1 for the target. share: (n, 1), which sum to 1.
    """

    logits: Tensor
    allowed: Tensor
    truth: Tensor
    share: Tensor

    @classmethod
    def of(cls, logits: Tensor, indices: Tensor, share: Tensor | None) -> "_Fit":
        z = logits.reshape(-1, logits.shape[-1])
        allowed = z != -torch.inf
        truth = indices.reshape(-1, 1) == torch.arange(z.shape[-1], device=z.device)
        share = torch.ones_like(z[:, :1]) if share is None else share.reshape(-1, 1).to(z.dtype)
        return cls(torch.where(allowed, z, 0.0), allowed, truth.to(z.dtype), share / share.sum())

    def log_probabilities(self, at: Tensor) -> Tensor:
        return torch.log_softmax(torch.where(self.allowed, at[0] * self.logits + at[1], -torch.inf), dim=-1)

    def loss(self, at: Tensor) -> Tensor:
        return -(self.share * torch.where(self.truth == 1, self.log_probabilities(at), 0.0)).sum()

    def step(self, at: Tensor, damping: Tensor) -> Tensor:
        """The curvature's inverse times the slope; damped by a part of the curvature's own diagonal."""
        p = torch.exp(self.log_probabilities(at))
        slopes = self.share * (p - self.truth)
        slope = torch.cat(((slopes * self.logits).sum(dim=0), slopes.sum(dim=0)))
        each = torch.cat((p * self.logits, p), dim=-1)  # of a class's logit by its scale and its bias, times p
        twice = torch.cat((each[:, : p.shape[-1]] * self.logits, each), dim=-1)
        scales, both, biases = (self.share * twice).sum(dim=0).reshape(3, -1)
        own = torch.cat((torch.cat((scales.diag(), both.diag()), 1), torch.cat((both.diag(), biases.diag()), 1)))
        curvature = own - each.T @ (self.share * each)
        size = torch.cat((scales, biases)) - (self.share * each**2).sum(dim=0)
        unit = torch.where(size > 0, size, 1.0).sqrt()
        damped = curvature / (unit.unsqueeze(1) * unit) + torch.diag(damping.expand_as(unit))
        return (torch.linalg.solve_ex(damped, slope / unit).result / unit).reshape(2, -1)

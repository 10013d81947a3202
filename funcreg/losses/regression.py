"""Losses of numbers and of signals."""

import math

import torch
from torch import Tensor

from .. import _checks
from ..tree.norms import without_scale
from ..tree.values import precise
from .reductions import REDUCTIONS, check_same_shape, counted, reduce, reduce_examples


def mse(predictions: Tensor, targets: Tensor, *, mask: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Mean squared error: the mean of `(predictions - targets)**2` over an example's elements.

    Args:
        predictions, targets: floating-point (N, ...), of one shape.
        mask: bool, of that shape: which elements count, in values, gradients and means. Default: all.
        reduction: "mean" (over all that count), "sum" (over examples) or "none".

    Returns:
        A tensor of shape (), or (N,) for "none", with 0 for an example of which nothing counts; the mean is NaN
        where nothing does.

    Raises:
        FuncregError: when the shapes differ or predictions are not floating-point.

    >>> mse(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor(2.)
    """
    p, t = counted(mask, *_pair(predictions, targets))
    return reduce_examples((p - t) ** 2, reduction, mask)


def mae(predictions: Tensor, targets: Tensor, *, mask: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Mean absolute error: the mean of `|predictions - targets|` over an example's elements.

    Args:
        predictions, targets: floating-point (N, ...), of one shape.
        mask: bool, of that shape: which elements count, in values, gradients and means. Default: all.
        reduction: "mean" (over all that count), "sum" (over examples) or "none".

    Returns:
        A tensor of shape (), or (N,) for "none", with 0 for an example of which nothing counts; the mean is NaN
        where nothing does.

    Raises:
        FuncregError: when the shapes differ or predictions are not floating-point.

    >>> mae(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor(1.)
    """
    p, t = counted(mask, *_pair(predictions, targets))
    return reduce_examples((p - t).abs(), reduction, mask)


def gaussian_nll(
    predictions: Tensor,
    targets: Tensor,
    *,
    min_variance: float | Tensor = 1e-6,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of a Gaussian head: the mean of `(log v + (targets - m)**2 / v) / 2` over an example.

    m are the predicted means, `v = max(exp(s), min_variance)` the variances, of predicted logarithms s: below the
    least variance s has no slope. `log(2 pi) / 2` = 0.9189 for each number is left out, as in `nn.GaussianNLLLoss`.

    Args:
        predictions: floating-point (N, ..., 2 D): D means, then D log variances, as of a last layer of 2 D units.
        targets: (N, ..., D).
        min_variance: above 0, a number or a tensor of shape (); in the squared unit of the targets.
        mask: bool, of targets' shape: which of them count, in values, gradients and means. Default: all.
        reduction: "mean" (over all that count), "sum" (over examples) or "none".

    Returns:
        A tensor of shape (), or (N,) for "none", with 0 for an example of which nothing counts; the mean is NaN
        where nothing does.

    Raises:
        FuncregError: when the shapes do not fit, predictions are not floating-point, or an argument is out of range.

    >>> gaussian_nll(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[1.0], [1.0]]))
    tensor(1.)

    Nix and Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994; Kendall
    and Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017 (equation 8).
    """
    _checks.check_floating("predictions", predictions)
    if predictions.ndim == 0 or predictions.shape[-1] == 0 or predictions.shape[-1] % 2:
        _checks.fail("predictions", _checks.describe(predictions), "means and log variances (N, ..., 2 D)")
    min_variance = _checks.check_setting("min_variance", min_variance, exclusive="low")
    m, s = precise(predictions).chunk(2, dim=-1)
    if isinstance(targets, Tensor) and targets.shape == m.shape[:-1] and m.shape[-1] == 1:
        _checks.fail("targets", _checks.describe(targets), f"shape {tuple(m.shape)}", "Add it: targets.unsqueeze(-1).")
    check_same_shape("targets", targets, "the predicted means", m)
    m, s, t = counted(mask, m, s, targets.to(m.dtype))
    least = torch.log(min_variance) if isinstance(min_variance, Tensor) else math.log(min_variance)
    s = torch.maximum(s, torch.as_tensor(least, dtype=s.dtype, device=s.device))
    return reduce_examples((s + ((t - m) * torch.exp(-s / 2)) ** 2) / 2, reduction, mask)


def correlation(predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """One minus Pearson's r of two signals: blind to their scale and offset.

    A signal without variance (to rounding) has r = 0, and no gradient.

    Args:
        predictions, targets: floating-point (..., L), of one shape; signals of at least 2 samples.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (...) for "none", in [0, 2] to rounding.

    Raises:
        FuncregError: when the shapes differ, predictions are not floating-point, or L is below 2.

    >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 35.0]))
    tensor(0.0551)
    """
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    p, t = _signals(predictions, targets, shortest=2)
    (p, p_flat, p_power), (t, t_flat, t_power) = _centre(p), _centre(t)
    flat = p_flat | t_flat
    # Each power is replaced before its root is taken, so that no derivative of any order is infinite.
    cosine = (p * t).sum(dim=-1) * torch.rsqrt(p_power) * torch.rsqrt(t_power)
    return reduce(1 - torch.where(flat, 0.0, cosine), reduction)


def spectral_l2(predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean squared difference of two signals' spectral magnitudes: blind to shifts in time.

    `mean_k (|rfft(predictions)_k| - |rfft(targets)_k|)**2`, k = 0 ... L // 2, by orthonormal transforms, whose
    magnitudes do not grow with the signal's length.
    The gradient at a magnitude of zero is zero.

    Args:
        predictions, targets: floating-point (..., L), of one shape.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (...) for "none".

    Raises:
        FuncregError: when the shapes differ or predictions are not floating-point.

    >>> spectral_l2(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
    tensor(0.)
    """
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    p, t = _signals(predictions, targets, shortest=1)
    return reduce(((_magnitudes(p) - _magnitudes(t)) ** 2).mean(dim=-1), reduction)


def _pair(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    _checks.check_floating("predictions", predictions)
    check_same_shape("targets", targets, "predictions", predictions)
    return precise(predictions), targets.to(precise(predictions).dtype)


def _signals(predictions: Tensor, targets: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    p, t = _pair(predictions, targets)
    if p.ndim == 0 or p.shape[-1] < shortest:
        _checks.fail("predictions", _checks.describe(predictions), f"signals (..., L) with L at least {shortest}")
    return p, t


def _centre(signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A signal without its mean; whether it moves by rounding only; its power, 1 where that is so. Of any scale."""
    # Beside its first sample, so that the mean of one that is far from 0 does not round it away.
    beside = signal - signal[..., :1].detach()
    reach, size = (each.detach().abs().amax(dim=-1) for each in (beside, signal))
    flat = (reach <= 4 * torch.finfo(signal.dtype).eps * size) & size.isfinite()
    beside = without_scale(beside, -1)
    centred = beside - beside.mean(dim=-1, keepdim=True)
    return centred, flat, torch.where(flat, 1.0, (centred**2).sum(dim=-1))


def _magnitudes(signal: Tensor) -> Tensor:
    if not signal.numel():  # which torch 2.13 cannot transform
        return signal[..., : signal.shape[-1] // 2 + 1]
    power = (torch.view_as_real(torch.fft.rfft(signal, norm="ortho")) ** 2).sum(dim=-1)
    zero = power == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, power)))

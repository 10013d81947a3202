"""Losses: `(predictions, targets) -> scalar`, every setting a number that may be batched under `vmap`.

An example is a row of logits, a signal of `correlation` and `spectral_l2`, and everything along
the first axis elsewhere. `reduction` is "mean" or "sum" over examples, or "none" for one value each.
16-bit inputs are computed and given back in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks

_REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float | Tensor = 0.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Softmax cross-entropy: `-sum_c w_c q_c log softmax(logits)_c`, q the smoothed targets.

    `q = (1 - smoothing) * y + smoothing / C`. As in `F.cross_entropy`, whose classes are axis 1,
    the mean over integer targets divides by the sum of their weights, that over soft targets by
    their number.

    Args:
        logits: floating-point (..., C); classes are the last axis.
        targets: integers (...) in [0, C), or probabilities (..., C).
        smoothing: in [0, 1], a number or a tensor of shape ().
        weight: (C,), one for each class. Default: 1.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (...) for "none".

    Raises:
        FuncregError: when the shapes do not fit or an argument is out of range.

    >>> cross_entropy(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]), smoothing=0.1)
    tensor(0.2269)

    Szegedy et al., "Rethinking the Inception architecture", CVPR 2016 (smoothing).
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    _check_classes(logits, targets)
    _check_smoothing(smoothing)
    classes = logits.shape[-1]
    log_p = F.log_softmax(_precise(logits), dim=-1)
    if weight is not None:
        _checks.check_floating("weight", weight)
        if weight.shape != (classes,):
            _checks.fail("weight", _checks.describe(weight), f"shape ({classes},), one for each class")
        weight = weight.to(log_p.dtype)
    weighted = log_p if weight is None else log_p * weight
    if targets.is_floating_point():
        soft = targets.to(log_p.dtype)
        soft = soft + smoothing * (1 / classes - soft)
        return _reduce(-(weighted * soft).sum(dim=-1).to(log_p.dtype), reduction)
    index = targets.to(torch.int64)
    losses = -weighted.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    if isinstance(smoothing, Tensor) or smoothing != 0:
        losses = (losses + smoothing * (-weighted.mean(dim=-1) - losses)).to(log_p.dtype)
    if weight is None or reduction != "mean":
        return _reduce(losses, reduction)
    return losses.sum() / weight[index].sum()


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float | Tensor = 0.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Sigmoid cross-entropy: `-w (q log sigmoid(logits) + (1 - q) log sigmoid(-logits))`.

    `q = (1 - smoothing) * targets + smoothing / 2`. Several logits of one example are averaged.

    Args:
        logits: floating-point (N, ...).
        targets: probabilities, integers or booleans, of logits' shape.
        smoothing: in [0, 1], a number or a tensor of shape ().
        weight: broadcasts with logits. Default: 1.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (N,) for "none".

    Raises:
        FuncregError: when the shapes do not fit or an argument is out of range.

    >>> binary_cross_entropy(torch.tensor([0.0, 2.0]), torch.tensor([0, 1]))
    tensor(0.4100)
    """
    _checks.check_floating("logits", logits)
    _check_same_shape("targets", targets, "logits", logits)
    _check_smoothing(smoothing)
    z = _precise(logits)
    soft = targets.to(z.dtype)
    soft = soft + smoothing * (0.5 - soft)
    losses = (1 - soft) * z - F.logsigmoid(z)
    if weight is not None:
        _checks.check_floating("weight", weight)
        pairs = zip(weight.shape[::-1], z.shape[::-1], strict=False)
        if weight.ndim > z.ndim or any(own not in (1, full) for own, full in pairs):
            _checks.fail("weight", _checks.describe(weight), f"a shape that broadcasts with logits {tuple(z.shape)}")
        losses = losses * weight
    return _reduce_examples(losses.to(z.dtype), reduction)


def mse(predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean squared error: the mean of `(predictions - targets)**2` over an example's elements.

    Args:
        predictions, targets: floating-point (N, ...), of one shape.
        reduction: "mean", "sum" (over examples) or "none".

    Returns:
        A tensor of shape (), or (N,) for "none".

    Raises:
        FuncregError: when the shapes differ or predictions are not floating-point.

    >>> mse(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor(2.)
    """
    p, t = _pair(predictions, targets)
    return _reduce_examples((p - t) ** 2, reduction)


def mae(predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean absolute error: the mean of `|predictions - targets|` over an example's elements.

    Args:
        predictions, targets: floating-point (N, ...), of one shape.
        reduction: "mean", "sum" (over examples) or "none".

    Returns:
        A tensor of shape (), or (N,) for "none".

    Raises:
        FuncregError: when the shapes differ or predictions are not floating-point.

    >>> mae(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor(1.)
    """
    p, t = _pair(predictions, targets)
    return _reduce_examples((p - t).abs(), reduction)


def correlation(predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """One minus Pearson's r of two signals: blind to their scale and offset.

    A signal without variance (to rounding) has r = 0, and no gradient.

    Args:
        predictions, targets: floating-point (..., L), of one shape; signals of at least 2 samples.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (...) for "none", in [0, 2].

    Raises:
        FuncregError: when the shapes differ, predictions are not floating-point, or L is below 2.

    >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 50.0]))
    tensor(0.)
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    p, t = _signals(predictions, targets, shortest=2)
    (p, p_flat, p_power), (t, t_flat, t_power) = _centre(p), _centre(t)
    flat = p_flat | t_flat
    # Each power is replaced before its root is taken, so that no derivative of any order is infinite.
    cosine = (p * t).sum(dim=-1) * torch.rsqrt(p_power) * torch.rsqrt(t_power)
    return _reduce(1 - torch.where(flat, 0.0, cosine), reduction)


def spectral_l2(predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean squared difference of two signals' spectral magnitudes: blind to shifts in time.

    `mean_k (|rfft(predictions)_k| - |rfft(targets)_k|)**2`, unnormalised transforms, k = 0 ... L // 2.
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
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    p, t = _signals(predictions, targets, shortest=1)
    return _reduce(((_magnitudes(p) - _magnitudes(t)) ** 2).mean(dim=-1), reduction)


def accuracy(logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Share of examples whose largest logit is the target's class.

    Args:
        logits: floating-point (..., C); classes are the last axis.
        targets: integers (...), or probabilities (..., C), of which the largest counts.
        reduction: "mean", "sum" or "none".

    Returns:
        float32 of shape (), or (...) of ones and zeros for "none".

    Raises:
        FuncregError: when the shapes do not fit.

    >>> accuracy(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
    tensor(0.5000)
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    _check_classes(logits, targets)
    classes = targets.argmax(dim=-1) if targets.is_floating_point() else targets
    return _reduce((logits.argmax(dim=-1) == classes).to(torch.float32), reduction)


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _reduce_examples(losses: Tensor, reduction: str) -> Tensor:
    """Average the elements of each example, then reduce over the examples."""
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    if reduction == "mean":
        return losses.mean()
    return _reduce(losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses, reduction)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _pair(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    _checks.check_floating("predictions", predictions)
    _check_same_shape("targets", targets, "predictions", predictions)
    return _precise(predictions), targets.to(_precise(predictions).dtype)


def _signals(predictions: Tensor, targets: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    p, t = _pair(predictions, targets)
    if p.ndim == 0 or p.shape[-1] < shortest:
        _checks.fail("predictions", _checks.describe(predictions), f"signals (..., L) with L at least {shortest}")
    return p, t


def _centre(signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A signal without its mean; whether nothing but rounding is left; its power, 1 where that is so."""
    centred = signal - signal.mean(dim=-1, keepdim=True)
    power = (centred**2).sum(dim=-1)
    rounding = (4 * torch.finfo(signal.dtype).eps) ** 2 * (signal**2).sum(dim=-1)
    flat = power <= rounding
    return centred, flat, torch.where(flat, 1.0, power)


def _magnitudes(signal: Tensor) -> Tensor:
    power = (torch.view_as_real(torch.fft.rfft(signal)) ** 2).sum(dim=-1)
    zero = power == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, power)))


def _check_classes(logits: Tensor, targets: Tensor) -> None:
    _checks.check_floating("logits", logits)
    if logits.ndim == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., C)")
    _checks.check_tensor("targets", targets)
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            remedy = "Class indices must be integers: targets.long()." if targets.shape == logits.shape[:-1] else ""
            _checks.fail("targets", _checks.describe(targets), f"probabilities {tuple(logits.shape)}", remedy)
    elif targets.dtype == torch.bool or targets.is_complex() or targets.shape != logits.shape[:-1]:
        allowed = f"integers {tuple(logits.shape[:-1])} or probabilities {tuple(logits.shape)}"
        _checks.fail("targets", _checks.describe(targets), allowed)


def _check_same_shape(argument: str, value: Tensor, other_argument: str, other: Tensor) -> None:
    _checks.check_tensor(argument, value)
    if value.shape != other.shape:
        _checks.fail(argument, _checks.describe(value), f"the shape of {other_argument}, {tuple(other.shape)}")


def _check_smoothing(smoothing: float | Tensor) -> None:
    _checks.check_number("smoothing", smoothing, 0.0, 1.0)
    if isinstance(smoothing, Tensor) and smoothing.ndim:
        _checks.fail("smoothing", _checks.describe(smoothing), "a number or a tensor of shape ()", "Use vmap.")

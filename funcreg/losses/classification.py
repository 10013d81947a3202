"""Losses of logits and classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _checks
from .reductions import REDUCTIONS, check_same_shape, precise, reduce, reduce_examples


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
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    _check_classes(logits, targets)
    _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    classes = logits.shape[-1]
    log_p = F.log_softmax(precise(logits), dim=-1)
    if weight is not None:
        _checks.check_floating("weight", weight)
        if weight.shape != (classes,):
            _checks.fail("weight", _checks.describe(weight), f"shape ({classes},), one for each class")
        weight = weight.to(log_p.dtype)
    weighted = log_p if weight is None else log_p * weight
    if targets.is_floating_point():
        soft = targets.to(log_p.dtype)
        soft = soft + smoothing * (1 / classes - soft)
        return reduce(-(weighted * soft).sum(dim=-1).to(log_p.dtype), reduction)
    index = targets.to(torch.int64)
    losses = -_of_class(weighted, index)
    if isinstance(smoothing, Tensor) or smoothing != 0:
        losses = (losses + smoothing * (-weighted.mean(dim=-1) - losses)).to(log_p.dtype)
    if weight is None or reduction != "mean":
        return reduce(losses, reduction)
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
    check_same_shape("targets", targets, "logits", logits)
    _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    z = precise(logits)
    soft = targets.to(z.dtype)
    soft = soft + smoothing * (0.5 - soft)
    losses = (1 - soft) * z - F.logsigmoid(z)
    if weight is not None:
        _checks.check_floating("weight", weight)
        pairs = zip(weight.shape[::-1], z.shape[::-1], strict=False)
        if weight.ndim > z.ndim or any(own not in (1, full) for own, full in pairs):
            _checks.fail("weight", _checks.describe(weight), f"a shape that broadcasts with logits {tuple(z.shape)}")
        losses = losses * weight
    return reduce_examples(losses.to(z.dtype), reduction)


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
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    _check_classes(logits, targets)
    classes = targets.argmax(dim=-1) if targets.is_floating_point() else targets
    return reduce((logits.argmax(dim=-1) == classes).to(torch.float32), reduction)


def _of_class(values: Tensor, index: Tensor) -> Tensor:
    """values[..., index], the entry of each row's class.

    For a few classes a compiled program compares rather than gathers, since that fuses and the
    gradient of a gather, a scatter, does not.
    """
    if torch.compiler.is_compiling() and values.shape[-1] <= 64:
        picked = index.unsqueeze(-1) == torch.arange(values.shape[-1], device=values.device)
        return torch.where(picked, values, 0.0).sum(dim=-1)
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _check_classes(logits: Tensor, targets: Tensor) -> None:
    _checks.check_floating("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., C) with C at least 1")
    _checks.check_tensor("targets", targets)
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            remedy = "Class indices must be integers: targets.long()." if targets.shape == logits.shape[:-1] else ""
            _checks.fail("targets", _checks.describe(targets), f"probabilities {tuple(logits.shape)}", remedy)
    elif targets.dtype == torch.bool or targets.is_complex() or targets.shape != logits.shape[:-1]:
        allowed = f"integers {tuple(logits.shape[:-1])} or probabilities {tuple(logits.shape)}"
        _checks.fail("targets", _checks.describe(targets), allowed)

"""Losses of logits and classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _checks
from .._compiling import is_compiling
from ..tree.values import precise
from .classes import as_classes, as_distributions, as_shares, check_ignored, check_integers
from .reductions import REDUCTIONS, as_weights, check_same_shape, reduce, reduce_examples, times


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float | Tensor = 0.0,
    weight: Tensor | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Softmax cross-entropy: `-sum_c w_c q_c log softmax(logits)_c`, q the smoothed targets.

    `q = (1 - smoothing) * y + smoothing / C`. As in `F.cross_entropy`, whose classes are axis 1,
    the mean over integer targets divides by the sum of their weights, that over soft targets by
    their number. A logit of -inf excludes a class: the limit, 0 where its q or w is 0 and else infinite.

    Args:
        logits: floating-point (..., C); classes are the last axis.
        targets: integers (...) in [0, C), or probabilities (..., C), which sum to 1.
        smoothing: in [0, 1], a number or a tensor of shape ().
        weight: (C,), one for each class, at least 0 and not all 0. Default: 1.
        ignore_index: an integer target that has no part in values, gradients and the mean; None for no such one.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (...) for "none", with 0 for an ignored target. The mean is NaN where all are ignored.

    Raises:
        FuncregError: when the shapes do not fit or an argument is out of range. In a compiled program, and on a
            GPU, an integer that is no class, a weight that is negative, or probabilities outside of [0, 1] or of
            another sum, make the loss NaN instead.

    >>> cross_entropy(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]), smoothing=0.1)
    tensor(0.2269)

    Szegedy et al., "Rethinking the Inception architecture", CVPR 2016 (smoothing).
    """
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    _check_classes(logits, targets, ignore_index)
    smoothing = _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    classes = logits.shape[-1]
    if weight is not None:
        weight = as_weights(weight, logits, some=True).to(precise(logits).dtype)
        if weight.shape != (classes,):
            _checks.fail("weight", _checks.describe(weight), f"shape ({classes},), one for each class")
    if targets.is_floating_point():
        log_p = F.log_softmax(precise(logits), dim=-1)
        soft = as_distributions(targets, log_p.dtype)
        soft = soft + smoothing * (1 / classes - soft)
        soft = soft if weight is None else soft * weight
        return reduce(-times(soft, log_p).sum(dim=-1).to(log_p.dtype), reduction)
    found = as_classes(targets, classes, ignore_index)
    log_p = F.log_softmax(found.masked(precise(logits)), dim=-1)
    weighted = log_p if weight is None else times(weight, log_p)
    losses = -_of_class(weighted, found.indices)
    if isinstance(smoothing, Tensor) or smoothing != 0:
        losses = (times(1 - smoothing, losses) + times(smoothing, -weighted.mean(dim=-1))).to(log_p.dtype)
    weights = found.share if weight is None else found.counted(weight[found.indices])
    return reduce(found.counted(losses), reduction, weights)


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
        targets: probabilities in [0, 1], as numbers, integers or booleans, of logits' shape.
        smoothing: in [0, 1], a number or a tensor of shape ().
        weight: broadcasts with logits, at least 0. Default: 1.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (N,) for "none".

    Raises:
        FuncregError: as `cross_entropy`.

    >>> binary_cross_entropy(torch.tensor([0.0, 2.0]), torch.tensor([0, 1]))
    tensor(0.4100)
    """
    _checks.check_floating("logits", logits)
    check_same_shape("targets", targets, "logits", logits)
    smoothing = _checks.check_setting("smoothing", smoothing, 0.0, 1.0)
    z = precise(logits)
    soft = as_shares(targets, z.dtype)
    soft = soft + smoothing * (0.5 - soft)
    losses = times(soft, -F.logsigmoid(z)) + times(1 - soft, -F.logsigmoid(-z))
    if weight is not None:
        weight = as_weights(weight, logits)
        pairs = zip(weight.shape[::-1], z.shape[::-1], strict=False)
        if weight.ndim > z.ndim or any(own not in (1, full) for own, full in pairs):
            _checks.fail("weight", _checks.describe(weight), f"a shape that broadcasts with logits {tuple(z.shape)}")
        losses = times(weight, losses)
    return reduce_examples(losses.to(z.dtype), reduction)


def kl_divergence(logits: Tensor, target_logits: Tensor, *, reduction: str = "mean") -> Tensor:
    """Kullback-Leibler divergence `sum_c p_c (log p_c - log q_c)`, p = softmax(target_logits) and q = softmax(logits).

    The cross-entropy without the targets' entropy: 0 where both agree. Between two passes of one network,
    or a student and a teacher; a teacher that shall learn nothing is given as `target_logits.detach()`.
    A logit of -inf excludes a class: 0 where p excludes it, infinite where q alone does.

    Args:
        logits, target_logits: floating-point (..., C), of one shape; classes are the last axis.
        reduction: "mean", "sum" or "none".

    Returns:
        A tensor of shape (), or (...) for "none", in nats.

    Raises:
        FuncregError: when the shapes differ, logits are not floating-point, or C is 0.

    >>> kl_divergence(torch.zeros(1, 2), torch.tensor([[0.0, 100.0]]))  # log 2
    tensor(0.6931)

    Kullback and Leibler, "On information and sufficiency", Annals of Mathematical Statistics 1951.
    """
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    _checks.check_floating("target_logits", target_logits)
    _check_logits(logits)
    check_same_shape("target_logits", target_logits, "logits", logits)
    z, t = precise(logits), precise(target_logits)
    log_q, log_p = F.log_softmax(z, dim=-1), F.log_softmax(t, dim=-1)
    p, q = log_p.exp(), log_q.exp()
    # With q - p, whose sum is 0, no term is negative, and what two distributions that nearly agree differ by is kept.
    gap = torch.where(p == 0, 0.0, _log_ratio(z, t, p, q, log_q - log_p))
    far = gap.clamp(min=1.0)
    terms = torch.where(gap < 1, p * _above_tangent(gap.clamp(max=1.0)), q - p - p * far)
    return reduce(torch.where(p == 0, q, terms).sum(dim=-1), reduction)


def accuracy(logits: Tensor, targets: Tensor, *, ignore_index: int | None = -100, reduction: str = "mean") -> Tensor:
    """Share of examples whose largest logit is the target's class; NaN for logits with NaN, or all -inf.

    Args:
        logits: floating-point (..., C); classes are the last axis.
        targets: integers (...) in [0, C), or probabilities (..., C), of which the largest counts.
        ignore_index: an integer target that is left out; None for no such one.
        reduction: "mean", "sum" or "none".

    Returns:
        float32 of shape (), or (...) of ones and zeros for "none", 0 for an ignored target.

    Raises:
        FuncregError: as `cross_entropy`.

    >>> accuracy(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
    tensor(0.5000)
    """
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    _check_classes(logits, targets, ignore_index)
    unknown = ~(logits.amax(dim=-1) > -torch.inf)  # NaN, or a row that excludes all classes
    if targets.is_floating_point():
        unknown = unknown | targets.amax(dim=-1).isnan()
        hits = logits.argmax(dim=-1) == targets.argmax(dim=-1)
        return reduce(torch.where(unknown, torch.nan, hits.to(torch.float32)), reduction)
    found = as_classes(targets, logits.shape[-1], ignore_index)
    hits = (logits.argmax(dim=-1) == found.indices).to(torch.float32)
    return reduce(found.counted(torch.where(unknown, torch.nan, hits)), reduction, found.share)


def _log_ratio(z: Tensor, t: Tensor, p: Tensor, q: Tensor, rough: Tensor) -> Tensor:
    """`log q - log p`, rough; of rows whose logits z - t are within 1, from those: right however near they are.

    It is `d - log(sum p exp(d))`, d = z - t less any constant: an integer, by which the larger one is not rounded.
    """
    there = p > 0
    offset = torch.where(there, z - t, -torch.inf).detach().amax(dim=-1, keepdim=True).round()
    d = (z - offset.clamp(min=0.0)) - (t + offset.clamp(max=0.0))
    fixed = d.detach()
    reach = torch.where(there, fixed, -torch.inf).amax(dim=-1) - torch.where(there, fixed, torch.inf).amin(dim=-1)
    near = ((reach <= 1) & (there | (q == 0)).all(dim=-1)).unsqueeze(-1) & there
    d = torch.where(near, d, 0.0)
    d = torch.where(near, d - (p * d).sum(dim=-1, keepdim=True).detach(), 0.0)
    return torch.where(near, d - torch.log1p((p * torch.expm1(d)).sum(dim=-1, keepdim=True)), rough)


def _above_tangent(x: Tensor) -> Tensor:
    """`exp(x) - 1 - x`, by its series where that would cancel."""
    small = x.clamp(-0.1, 0.1)
    series = torch.ones_like(small)
    for order in range(10, 2, -1):
        series = 1 + series * small / order
    return torch.where(x.abs() < 0.1, series * small * small / 2, torch.expm1(x) - x)


def _of_class(values: Tensor, index: Tensor) -> Tensor:
    """values[..., index], the entry of each row's class.

    For a few classes a compiled program compares rather than gathers, since that fuses and the
    gradient of a gather, a scatter, does not.
    """
    if is_compiling() and values.shape[-1] <= 64:
        picked = index.unsqueeze(-1) == torch.arange(values.shape[-1], device=values.device)
        return torch.where(picked, values, 0.0).sum(dim=-1)
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _check_logits(logits: Tensor) -> None:
    _checks.check_floating("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., C) with C at least 1")


def _check_classes(logits: Tensor, targets: Tensor, ignore_index: int | None) -> None:
    _check_logits(logits)
    _checks.check_tensor("targets", targets)
    if not targets.is_floating_point():
        check_integers(targets, logits)
    elif targets.shape != logits.shape:
        remedy = "Class indices must be integers: targets.long()." if targets.shape == logits.shape[:-1] else ""
        _checks.fail("targets", _checks.describe(targets), f"probabilities {tuple(logits.shape)}", remedy)
    _checks.check_beside("targets", targets, logits, "logits")
    check_ignored(ignore_index, "probabilities" if targets.is_floating_point() else "")

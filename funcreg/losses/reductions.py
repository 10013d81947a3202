"""What all losses share: reductions over examples, the dtype they are computed in, a check of shapes."""

import torch
from torch import Tensor

from .. import _checks, _jit

REDUCTIONS = ("mean", "sum", "none")


def reduce(losses: Tensor, reduction: str, weights: Tensor | None = None) -> Tensor:
    """The mean or sum of one value each, or the values. The mean of weighted losses is over their weights' sum.

    >>> reduce(torch.tensor([1.0, 3.0]), "mean"), reduce(torch.tensor([1.0, 0.0]), "mean", torch.tensor([1.0, 0.0]))
    (tensor(2.), tensor(1.))
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if not losses.numel():
        _checks.fail("reduction", "'mean' of no examples", "at least one example", 'Or reduction="sum" or "none".')
    return losses.mean() if weights is None else losses.sum() / weights.sum().to(losses.dtype)


def reduce_examples(losses: Tensor, reduction: str, mask: Tensor | None = None) -> Tensor:
    """Average the elements of each example, then reduce over the examples; of those in a mask, where there is one.

    >>> reduce_examples(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), "sum")
    tensor(2.)
    """
    _checks.check_choice("reduction", reduction, REDUCTIONS)
    counts = None if mask is None else mask.to(losses.dtype)
    losses = losses if mask is None else torch.where(mask, losses, 0.0)
    if reduction == "mean":
        return reduce(losses, reduction, counts)
    if losses.ndim > 1:
        each, losses = losses.flatten(1), losses.flatten(1).mean(dim=1)
        if counts is not None:
            losses = each.sum(dim=1) / counts.flatten(1).sum(dim=1).clamp_min(1.0)
    return reduce(losses, reduction)


def times(factor: float | Tensor, values: Tensor) -> Tensor:
    """`factor * values`, a limit where values are infinite: 0 for a factor of 0.

    >>> times(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([-torch.inf, -torch.inf, 2.0]))
    tensor([0., -inf, 0.])
    """
    return factor * torch.where(values.isinf() & (factor == 0), 0.0, values)


def check_same_shape(argument: str, value: Tensor, other_argument: str, other: Tensor) -> None:
    """Refuse a tensor of another shape or device, or of complex numbers, which would lose their imaginary parts.

    >>> check_same_shape("targets", torch.zeros(2), "predictions", torch.zeros(2))
    """
    _checks.check_tensor(argument, value)
    if value.shape != other.shape or value.is_complex():
        allowed = f"real numbers in the shape of {other_argument}, {tuple(other.shape)}"
        _checks.fail(argument, _checks.describe(value), allowed)
    _checks.check_beside(argument, value, other, other_argument)


def as_weights(weight: Tensor, logits: Tensor, *, some: bool = False) -> Tensor:
    """Weights of what logits are, finite and at least 0 (with `some`, not all 0); NaN in one that cannot be read.

    >>> as_weights(torch.tensor([0.5, 2.0]), torch.zeros(3, 2))
    tensor([0.5000, 2.0000])
    """
    _checks.check_floating("weight", weight)
    _checks.check_beside("weight", weight, logits, "logits")
    right = (weight >= 0) & (weight < torch.inf)
    values = _jit.known(right)
    if values is None:
        return torch.where(right, weight, torch.nan)
    if not bool(values.all()):
        got = f"{int((~values).sum())} of {values.numel()} numbers that are negative or not finite"
        _checks.fail("weight", got, "finite numbers of at least 0")
    positive = _jit.known((weight > 0).any()) if some else None
    if positive is not None and not bool(positive.all()):
        _checks.fail("weight", "zeros alone", "at least one number above 0")
    return weight


def counted(mask: Tensor | None, *values: Tensor) -> tuple[Tensor, ...]:
    """Values of one shape, 0 where a mask has False, so that nothing there reaches a derivative.

    >>> counted(torch.tensor([True, False]), torch.tensor([2.0, torch.nan]))
    (tensor([2., 0.]),)
    """
    if mask is None:
        return values
    _checks.check_tensor("mask", mask)
    shape = values[0].shape
    if mask.dtype != torch.bool or mask.shape != shape:
        _checks.fail("mask", _checks.describe(mask), f"booleans in the shape of targets, {tuple(shape)}")
    _checks.check_beside("mask", mask, values[0], "predictions")
    return tuple(torch.where(mask, each, 0.0) for each in values)

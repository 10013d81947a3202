"""How a model's outputs are read, and what many of them say together: a head for each kind of model."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import _checks
from ..tree.values import precise
from . import predictive, regression

ClassHead = Literal["softmax", "sigmoid"]
NumberHead = Literal["mean", "gaussian"]


class Head(NamedTuple):
    """`end(merge(begin(some), begin(others)))` of samples (T, ...) that `read` made, each of one output.

    inputs: the axis of the inputs in what `end` returns.
    """

    read: Callable[[Tensor], Tensor]
    begin: Callable[[Tensor], Any]
    merge: Callable[[Any, Any], Any]
    end: Callable[[Any], Any]
    inputs: int = 0


def head_of(name: Any) -> Head:
    """The head of this name."""
    _checks.check_choice("head", name, HEADS)
    return HEADS[name]


def _softmax(logits: Tensor) -> Tensor:
    if logits.ndim < 2 or logits.shape[-1] < 2:
        remedy = 'Of one logit: head="sigmoid". Of numbers: head="mean", or "gaussian" with their log variances.'
        _refuse(logits, "logits (N, C) of at least 2 classes", remedy)
    return torch.softmax(precise(logits), dim=-1)


def _sigmoid(logits: Tensor) -> Tensor:
    if logits.ndim < 1 or logits.shape[-1] < 1:
        _refuse(logits, "logits (N,), (N, 1), or (N, L) of L labels")
    z = precise(logits)
    z = z.squeeze(-1) if z.ndim > 1 else z
    # By two sigmoids: 1 - p would round a small one away.
    return torch.stack((torch.sigmoid(-z), torch.sigmoid(z)), dim=-1)


def _mean(outputs: Tensor) -> Tensor:
    if outputs.ndim < 1:
        _refuse(outputs, "predictions (N, ...)")
    return precise(outputs)


def _gaussian(outputs: Tensor) -> Tensor:
    if outputs.ndim < 2 or outputs.shape[-1] < 2 or outputs.shape[-1] % 2:
        _refuse(outputs, "means and log variances (N, 2 D), means first", 'Of means alone: head="mean".')
    return precise(outputs)


def _refuse(output: Tensor, allowed: str, remedy: str = "") -> None:
    _checks.fail("model", f"an output of {_checks.describe(output)}", allowed, remedy)


HEADS = {
    "softmax": Head(_softmax, predictive.of_classes, predictive.merge, predictive.predictive),
    "sigmoid": Head(_sigmoid, predictive.of_classes, predictive.merge, predictive.predictive),
    "mean": Head(_mean, regression.of_means, predictive.merge, regression.regression),
    "gaussian": Head(_gaussian, regression.of_gaussians, predictive.merge, regression.regression),
    "raw": Head(lambda outputs: outputs, lambda some: (some,), lambda some, others: some + others, torch.cat, inputs=1),
}

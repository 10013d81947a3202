"""Virtual adversarial training: predictions that stay as they are, in the direction that changes them most."""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import _checks, losses, random
from .._functorch import constant, derivative_along
from ..losses.reductions import REDUCTIONS, reduce_examples
from ..tree.values import precise
from .balls import unit


def vat(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    epsilon: float | Tensor,
    *,
    key: Tensor,
    steps: int = 1,
    reduction: str = "mean",
) -> Tensor:
    """Local distributional smoothness: `KL(p(x) || p(x + epsilon * d))`, p = softmax(function), d the worst direction.

    d is the first eigenvector of the Hessian H of that divergence by its input, at x, found by power
    iteration for each example: from a random direction, `steps` times `d = H d / ||H d||`, the norm being
    over all elements of an example; 0 where H d is 0. H d is exact, the limit of the paper's finite
    difference as its xi goes to 0. Without targets, so for unlabelled examples too.

    As in the paper p(x) and d are constants: the gradient is that of the second pass alone. Derivatives taken
    from outside, as through `fr.train.unroll`, know where they came from.

    Args:
        function: (N, ...) -> logits (N, C) or (N, ..., C), which are averaged over an example's; called three
            times or more. Its noise and its batch statistics are its own: close over one key, and all
            passes see the same noise. -inf excludes a class.
        x: floating-point (N, ...).
        epsilon: the length of what is added, at least 0, in x's unit; a number or a tensor of shape ().
        key: int64 (2,); draws the first direction.
        steps: at least 1, each a derivative forwards and one backwards. The paper's experiments take 1.
        reduction: "mean", "sum" (over examples) or "none".

    Returns:
        A tensor of shape (), or (N,) for "none", in float32 at least; times a strength it is a penalty.

    Raises:
        FuncregError: when function gives another shape, x is not floating-point (N, ...), or a number is out of range.

    >>> def function(x):
    ...     return x @ torch.tensor([[2.0, 0.0], [0.0, 0.1]])
    >>> vat(function, torch.zeros(3, 2), 0.5, key=random.key(0), steps=5)
    tensor(0.1204)

    Miyato, Maeda, Koyama and Ishii, "Virtual adversarial training: a regularization method for supervised and
    semi-supervised learning", IEEE TPAMI 2018.
    """
    _checks.check_callable("function", function, "a function (N, ...) -> logits (N, C)")
    _checks.check_floating("x", x)
    if x.ndim == 0:
        _checks.fail("x", _checks.describe(x), "a tensor (N, ...)")
    epsilon = _checks.check_setting("epsilon", epsilon)
    _checks.check_key(key, x)
    _checks.check_count("steps", steps)
    _checks.check_choice("reduction", reduction, REDUCTIONS)

    def logits_of(x: Tensor) -> Tensor:
        logits = function(x)
        if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim < 2:
            _refuse(logits, x)
        if logits.shape[0] != x.shape[0] or logits.shape[-1] < 2:
            _refuse(logits, x)
        return precise(logits)

    logits, pull_back, *_ = torch.func.vjp(logits_of, x)
    p = torch.softmax(logits, dim=-1)
    direction = unit(random.normal(key, tuple(x.shape), dtype=precise(x).dtype))
    for _ in range(steps):
        # H is J^T (diag(p) - p p^T) J: where the divergence is least its slope by the logits is 0.
        change = torch.where(p == 0, 0.0, p * derivative_along(logits_of, x, direction.to(x.dtype)))
        (product, *_) = pull_back(change - p * change.sum(dim=-1, keepdim=True))
        direction = unit(precise(product))
    moved = x + (epsilon * constant(direction)).to(x.dtype)
    each = losses.kl_divergence(logits_of(moved), constant(logits), reduction="none")
    return reduce_examples(each, reduction)


def _refuse(logits: object, x: Tensor) -> None:
    allowed = f"one that gives logits ({x.shape[0]}, C) of at least 2 classes"
    remedy = "Of model.apply it is the first result; of one logit z: torch.stack((torch.zeros_like(z), z), dim=-1)."
    _checks.fail("function", f"one that gives {_checks.describe(logits)}", allowed, remedy)

"""Penalties of a function and its inputs, averaged over examples.

The function is a model with its parameters closed over: `lambda x: model.apply(params, state, x)[0]`.
The penalty is differentiable again, in what the function closes over. An example's output must
depend on that example alone, as it does not under batch statistics.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _checks, random
from ..tree.values import precise
from . import core


def jacobian(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    strength: float | Tensor,
    *,
    key: Tensor,
    projections: int = 1,
) -> Tensor:
    """Jacobian norm: `strength * mean_n ||J_n||_F**2`, J_n the derivative of example n's outputs by its inputs.

    Estimated from random orthonormal directions v in the space of outputs, drawn for each example:
    `C / projections * sum_v ||v J_n||**2`, whose mean over keys is exact. So is the value itself
    when projections >= C. Each direction costs one backward pass, all taken at once.

    Args:
        function: (N, ...) -> (N, C).
        x: floating-point (N, ...).
        strength: at least 0, a number or a tensor of shape ().
        key: int64 (2,).
        projections: directions an example.

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when function gives another shape, x is not floating-point, strength is negative,
            or projections is below 1.

    >>> weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> jacobian(lambda x: x @ weight, torch.ones(5, 2), 0.1, key=random.key(0), projections=2)
    tensor(2.5000)

    Hoffman, Roberts and Yaida, "Robust learning with Jacobian regularization", arXiv:1908.02729, 2019.
    """
    _check_inputs("x", x)
    _checks.check_callable("function", function, "a function (N, ...) -> (N, C)")
    _checks.check_count("projections", projections)
    _checks.check_key(key, x)
    outputs, pull_back, *_ = torch.func.vjp(function, x)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[0] != x.shape[0] or not outputs.shape[1]:
        got = f"one that gives {_checks.describe(outputs)}"
        _checks.fail("function", got, f"one that gives a tensor ({x.shape[0]}, C) with C at least 1")
    examples, classes = outputs.shape
    directions = _directions(key, outputs, min(projections, classes))
    (rows,) = torch.func.vmap(pull_back)(directions)
    square = precise(rows).square().sum() * (classes / directions.shape[0] / examples)
    return core.scaled("strength", strength, [square])


def gradient_penalty(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    strength: float | Tensor,
    *,
    target: float | Tensor = 1.0,
) -> Tensor:
    """Gradient penalty: `strength * mean_n (||grad f(x_n)|| - target)**2`, of a function with one output.

    A target of 1, at `interpolate(real, fake)`, is WGAN-GP; 0, at real samples, is R1 (whose paper has a 1/2).

    Args:
        function: (N, ...) -> (N,) or (N, 1), e.g. a critic.
        x: floating-point (N, ...).
        strength: at least 0, a number or a tensor of shape ().
        target: at least 0, a number or a tensor of shape ().

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when function gives another shape, x is not floating-point, or a number is negative.

    >>> gradient_penalty(lambda x: x @ torch.tensor([3.0, 4.0]), torch.ones(5, 2), 10.0)  # 10 * (5 - 1)**2
    tensor(160.)

    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017; Mescheder, Geiger and
    Nowozin, "Which training methods for GANs do actually converge?", ICML 2018 (R1).
    """
    _check_inputs("x", x)
    _checks.check_callable("function", function, "a function (N, ...) -> (N,) or (N, 1)")
    target = _checks.check_setting("target", target, 0.0)
    examples = x.shape[0]

    def total(x: Tensor) -> Tensor:
        outputs = function(x)
        if not isinstance(outputs, Tensor) or outputs.shape not in ((examples,), (examples, 1)):
            got = f"one that gives {_checks.describe(outputs)}"
            _checks.fail("function", got, f"one that gives a tensor ({examples},) or ({examples}, 1)")
        return outputs.sum()

    # The sum over examples has every example's own gradient: one backward pass.
    slopes = precise(torch.func.grad(total)(x)).reshape(examples, math.prod(x.shape[1:]))
    square = slopes.square().sum(dim=1)
    # At a slope of 0 the norm has a kink, and is left out; the square, which is all of R1, has none.
    flat = square == 0
    off = (torch.sqrt(torch.where(flat, 1.0, square)) - target).square()
    each = torch.where(flat, square + target * target, off)
    return core.scaled("strength", strength, [each.mean().to(slopes.dtype)])


def interpolate(real: Tensor, fake: Tensor, *, key: Tensor) -> Tensor:
    """A random point between each pair: `w * real + (1 - w) * fake`, one uniform w in [0, 1) a sample.

    Where WGAN-GP takes its `gradient_penalty`.

    Args:
        real, fake: floating-point (N, ...), of one shape.
        key: int64 (2,).

    Returns:
        real's shape and dtype.

    Raises:
        FuncregError: when the shapes differ, or real is not floating-point.

    >>> interpolate(torch.ones(3, 2), torch.zeros(3, 2), key=random.key(0))
    tensor([[0.1559, 0.1559],
            [0.4132, 0.4132],
            [0.3425, 0.3425]])

    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017.
    """
    _check_inputs("real", real)
    _checks.check_floating("fake", fake)
    if fake.shape != real.shape:
        _checks.fail("fake", _checks.describe(fake), f"the shape of real, {tuple(real.shape)}")
    _checks.check_beside("fake", fake, real, "real")
    _checks.check_key(key, real)
    first, second = precise(real), precise(fake)
    weight = random.uniform(key, (real.shape[0],), dtype=first.dtype).reshape(-1, *(1 for _ in real.shape[1:]))
    return (second + weight * (first - second)).to(real.dtype)


def confidence(logits: Tensor, strength: float | Tensor) -> Tensor:
    """Confidence penalty: `-strength * mean_n H_n`, H the entropy of softmax(logits) in nats; in [-strength log C, 0].

    Args:
        logits: floating-point (..., C); a logit of -inf excludes a class.
        strength: at least 0, a number or a tensor of shape ().

    Returns:
        A tensor of shape ().

    Raises:
        FuncregError: when logits are not floating-point (..., C), or strength is negative.

    >>> confidence(torch.zeros(3, 4), 0.1)  # -0.1 * log(4)
    tensor(-0.1386)

    Pereyra, Tucker, Chorowski, Kaiser and Hinton, "Regularizing neural networks by penalizing confident
    output distributions", ICLR workshop 2017.
    """
    _checks.check_floating("logits", logits)
    if logits.ndim == 0 or not logits.numel():
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., C) with rows, and C at least 1")
    log_p = F.log_softmax(precise(logits), dim=-1)
    # p log p is 0 where p is, also with log p = -inf.
    negative_entropy = (log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(dim=-1)
    return core.scaled("strength", strength, [negative_entropy.mean()])


def _directions(key: Tensor, outputs: Tensor, count: int) -> Tensor:
    """Orthonormal directions for each row of outputs, (count, N, C): all of them, or random ones."""
    examples, classes = outputs.shape
    if count == classes:
        eye = torch.eye(classes, dtype=outputs.dtype, device=outputs.device)
        return eye.unsqueeze(1).expand(classes, examples, classes)
    dtype = precise(outputs.detach()).dtype
    drawn = random.normal(key, (examples, classes, count), dtype=dtype)
    # One vector needs no decomposition, which a GPU makes example by example.
    basis = drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True) if count == 1 else torch.linalg.qr(drawn).Q
    return basis.movedim(-1, 0).to(outputs.dtype)


def _check_inputs(argument: str, x: Tensor) -> None:
    _checks.check_floating(argument, x)
    if x.ndim == 0 or not x.shape[0]:
        _checks.fail(argument, _checks.describe(x), "a tensor (N, ...) with N at least 1")

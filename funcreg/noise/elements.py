"""Noise of single elements."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks, random
from ..random import execution
from .shared import as_number, check, drop, drop_to_floor


def dropout(x: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
    """Zero each element with probability rate: `x * mask / (1 - rate)`.

    Args:
        x: floating-point, of any shape.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, or rate not in [0, 1].

    >>> dropout(torch.ones(5), 0.5, key=random.key(1))
    tensor([2., 0., 2., 0., 0.])

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout", JMLR 2014.
    """
    rate = check(x, rate, key=key)
    if x.dtype == torch.float32 and not isinstance(rate, Tensor):
        fresh = execution.by_kernel(key, x.shape)
        if fresh is not None:
            return x * _as_mask(fresh, rate)
    return drop(x, rate, execution.kept(key, tuple(x.shape), rate))


def dropout_masks(keys: Tensor, shape: tuple[int, ...], rates: Tensor) -> tuple[Tensor, ...] | None:
    """What `dropout` multiplies float32 numbers of a shape by, for each of some keys (n, 2), if a kernel draws.

    >>> keys, x = random.split(random.key(0)), torch.ones(3, 4)
    >>> masks = dropout_masks(keys, x.shape, rates_and_scales((0.5, 0.1), x.ndim))
    >>> masks is None or torch.equal(masks[1], dropout(x, 0.1, key=keys[1]))
    True
    """
    fresh = execution.each_by_kernel(keys, shape)
    return None if fresh is None else fresh.ge_(rates[0]).mul_(rates[1]).unbind()


def rates_and_scales(rates: Sequence[float], ndim: int, device: torch.device | None = None) -> Tensor:
    """Rates below 1, and what is kept is multiplied by: (2, n), with further axes for masks of `ndim` dimensions.

    >>> rates_and_scales((0.5, 0.75), 0)
    tensor([[0.5000, 0.7500],
            [2.0000, 4.0000]])
    """
    both = torch.tensor((rates, [1 / (1 - rate) for rate in rates]), dtype=torch.float32, device=device)
    return both.reshape(2, -1, *[1] * ndim)


def _as_mask(fresh: Tensor, rate: float) -> Tensor:
    """A mask in the place of the numbers that were just drawn: half the time for a small layer."""
    mask = fresh.ge_(rate)
    return mask if rate == 1 else mask.mul_(1 / (1 - rate))


def alpha_dropout(x: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
    """Dropout for SELU networks: keeps a mean of 0 and a variance of 1.

    `a * (x * mask + floor * (1 - mask)) + b`, where floor = -1.758 is what SELU gives far below 0,
    `a = ((1 - rate) * (1 + rate * floor**2))**-0.5` and `b = -a * rate * floor`.

    Args:
        x: floating-point, of any shape; standardised, as SELU's outputs are.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype; zeros for a rate of 1.

    Raises:
        FuncregError: when x is not floating-point, or rate not in [0, 1].

    >>> alpha_dropout(random.normal(random.key(1), 1_000_000), 0.5, key=random.key(0)).std().round(decimals=2)
    tensor(1.)

    Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
    """
    rate = check(x, rate, key=key)
    return drop_to_floor(x, rate, execution.kept(key, tuple(x.shape), rate))


def gaussian_dropout(x: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
    """Multiply each element by Gaussian noise of dropout's own mean and variance.

    `x * n` with n ~ N(1, rate / (1 - rate)). At a rate of 1, where that variance is infinite,
    everything is dropped as in `dropout`.

    Args:
        x: floating-point, of any shape.
        rate: in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, or rate not in [0, 1].

    >>> gaussian_dropout(torch.ones(100_000), 0.5, key=random.key(0)).std()
    tensor(0.999...)

    Srivastava et al., "Dropout", JMLR 2014, section 10.
    """
    rate = check(x, rate, key=key)
    p = as_number(rate, x).detach()  # the root's slope at a rate of 0 is infinite: no gradient is asked of it
    none_left = p == 1
    std = torch.where(none_left, 0.0, torch.sqrt(p / torch.where(none_left, 1.0, 1 - p)))
    mean = torch.where(none_left, 0.0, 1.0).to(p.dtype)
    return (x * (mean + std * random.normal(key, tuple(x.shape), dtype=p.dtype))).to(x.dtype)


def gaussian_noise(x: Tensor, std: float | Tensor, *, key: Tensor) -> Tensor:
    """Add Gaussian noise: `x + std * n` with n ~ N(0, 1).

    Args:
        x: floating-point, of any shape.
        std: at least 0, in x's unit; a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, or std is negative.

    >>> gaussian_noise(torch.zeros(100_000), 0.1, key=random.key(0)).std()
    tensor(0.099...)

    Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 1995.
    """
    std = check(x, std, key=key, name="std", high=math.inf)
    scale = as_number(std, x)
    return (x + scale * random.normal(key, tuple(x.shape), dtype=scale.dtype)).to(x.dtype)


def rrelu(x: Tensor, lower: float | Tensor = 1 / 8, upper: float | Tensor = 1 / 3, *, key: Tensor) -> Tensor:
    """Randomized leaky ReLU: x where positive, a * x elsewhere, with an a ~ U(lower, upper) for each element.

    For evaluation the mean slope is used: `F.leaky_relu(x, (lower + upper) / 2)`.

    Args:
        x: floating-point, of any shape.
        lower, upper: the slopes' interval, lower at most upper; numbers or tensors of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, or lower is above upper.

    >>> rrelu(torch.tensor([2.0, -1.0, -1.0]), 0.1, 0.3, key=random.key(0))
    tensor([ 2.0000, -0.1826, -0.1685])

    Xu, Wang, Chen and Li, "Empirical evaluation of rectified activations in convolution network", 2015.
    """
    lower = check(x, lower, key=key, name="lower", low=-math.inf, high=math.inf)
    upper = _checks.check_setting("upper", upper, -math.inf, math.inf)
    lower = _checks.check_order("lower", lower, upper, "upper")
    low, high = as_number(lower, x), as_number(upper, x)
    slope = low + (high - low) * random.uniform(key, tuple(x.shape), dtype=low.dtype)
    return torch.where(x > 0, x, x * slope).to(x.dtype)

"""Noise that regularizes: `(x, rate, *, key) -> x`, on exactly when it is called.

All of it is inverted: what is kept is scaled up by `1 / (1 - rate)`, so that the mean over
keys is the input and evaluation needs no function at all. A mask compares float32 uniforms
with the rate, whatever the dtype of x, so every dtype sees the same one. A rate of 0 gives
the input and a rate of 1 gives zeros, exactly and with finite gradients; an infinite input
that is dropped gives NaN, as in `F.dropout`.

A rate may be a tensor of shape (), batched under `vmap`. Masks are steps in it, so the
gradient that reaches it is that of the scaling alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks, random, tree
from .random import execution

_SELU_FLOOR = -1.7580993408473766  # -scale * alpha of SELU: what a unit falls to when it is off


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
    _check(x, rate, key)
    return _drop(x, rate, execution.kept(key, tuple(x.shape), rate))


def channel_dropout(x: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
    """Zero whole channels, each with probability rate: one draw per sample and channel.

    Args:
        x: floating-point (N, C, *spatial), at least one spatial axis.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x has fewer than three axes or is not floating-point, or rate is not in [0, 1].

    >>> channel_dropout(torch.ones(1, 2, 3), 0.4, key=random.key(0))
    tensor([[[0.0000, 0.0000, 0.0000],
             [1.6667, 1.6667, 1.6667]]])

    Tompson et al., "Efficient object localization using convolutional networks", CVPR 2015.
    """
    _check(x, rate, key)
    _check_spatial(x)
    return _drop(x, rate, _expand(execution.kept(key, tuple(x.shape[:2]), rate), x))


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
    _check(x, rate, key)
    kept = execution.kept(key, tuple(x.shape), rate)
    p = _as_number(rate, x)
    denominator = (1 - p) * (1 + p * _SELU_FLOOR**2)
    none_left = denominator == 0
    a = torch.where(none_left, 0.0, torch.rsqrt(torch.where(none_left, 1.0, denominator)))
    # One product and one sum per element: a * x + b where kept, a * floor + b where not.
    shift = a * _SELU_FLOOR * (1 - p) - kept * (a * _SELU_FLOOR)
    return (x * (kept * a) + shift).to(x.dtype)


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
    _check(x, rate, key)
    p = _as_number(rate, x).detach()  # the root's slope at a rate of 0 is infinite: no gradient is asked of it
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
    _check(x, std, key, name="std", high=math.inf)
    scale = _as_number(std, x)
    return (x + scale * random.normal(key, tuple(x.shape), dtype=scale.dtype)).to(x.dtype)


def drop_path(x: Tensor, rate: float | Tensor, *, key: Tensor, mode: str = "row") -> Tensor:
    """Drop a residual branch (stochastic depth): whole samples, or the whole batch.

    Args:
        x: floating-point (N, ...), the branch before it is added.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).
        mode: "row" draws once per sample, "batch" once for all.

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x has no axis or is not floating-point, rate is not in [0, 1], or mode is another.

    >>> drop_path(torch.ones(3, 2), 0.4, key=random.key(0))
    tensor([[0.0000, 0.0000],
            [1.6667, 1.6667],
            [0.0000, 0.0000]])

    Huang, Sun, Liu, Sedra and Weinberger, "Deep networks with stochastic depth", ECCV 2016.
    """
    _check(x, rate, key)
    _checks.check_choice("mode", mode, ("row", "batch"))
    if x.ndim == 0:
        _checks.fail("x", _checks.describe(x), "a tensor (N, ...)")
    kept = execution.kept(key, (x.shape[0] if mode == "row" else 1,), rate)
    return _drop(x, rate, _expand(kept, x))


def drop_block(x: Tensor, rate: float | Tensor, *, key: Tensor, block_size: int) -> Tensor:
    """Drop square blocks of a feature map, so that neighbours cannot stand in for each other.

    Blocks start with probability `1 - (1 - rate)**(1 / block_size**d)` at every place of d-dimensional
    space where they would cover some of the map. So each element is dropped with probability rate,
    at the edges too; the paper's blocks stay inside, drop the edges less, and rescale by the count.

    Args:
        x: floating-point (N, C, *spatial), one to three spatial axes.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).
        block_size: the side of a block, in elements.

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: for a wrong x, rate or block_size.

    >>> drop_block(torch.ones(1, 1, 9), 0.5, key=random.key(0), block_size=3)
    tensor([[[0., 0., 0., 0., 2., 2., 2., 2., 0.]]])

    Ghiasi, Lin and Le, "DropBlock", NeurIPS 2018.
    """
    _check(x, rate, key)
    _check_spatial(x, at_most=3)
    _checks.check_count("block_size", block_size)
    spatial = x.shape[2:]
    p = torch.as_tensor(rate, dtype=torch.float64, device=x.device).detach()
    starts_at = -torch.expm1(torch.log1p(-p) / block_size ** len(spatial))
    starts = random.uniform(key, (*x.shape[:2], *(length + block_size - 1 for length in spatial))) < starts_at
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(spatial) - 1]
    return _drop(x, rate, pool(starts.to(torch.float32), block_size, stride=1) == 0)


def drop_connect(params: tree.Tree, rate: float | Tensor, *, key: Tensor, mask: tree.Mask | None = None) -> tree.Tree:
    """Dropout on parameters: zero each number of the selected leaves with probability rate.

    Args:
        params: a tree of tensors.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).
        mask: (name, leaf) -> bool picks the leaves, e.g. `fr.tree.is_weight`. Default: all.

    Returns:
        A tree like params; unselected leaves as they are.

    Raises:
        FuncregError: when rate is not in [0, 1], mask picks nothing, or a leaf is not floating-point
            (the message names the leaf).

    >>> drop_connect({"weight": torch.ones(4), "bias": torch.ones(2)}, 0.5, key=random.key(0), mask=tree.is_weight)
    {'weight': tensor([...]), 'bias': tensor([1., 1.])}

    Wan, Zeiler, Zhang, LeCun and Fergus, "Regularization of neural networks using DropConnect", ICML 2013.
    """
    _checks.check_key(key)
    _checks.check_setting("rate", rate, 0.0, 1.0)
    selected = tree.select(params, mask)
    for name, leaf in selected:
        _checks.check_floating(name or "params", leaf)
    keys = dict(zip((name for name, _ in selected), random.split(key, max(1, len(selected))), strict=False))
    return tree.map_named(lambda name, leaf: dropout(leaf, rate, key=keys[name]) if name in keys else leaf, params)


def _drop(x: Tensor, rate: float | Tensor, kept: Tensor) -> Tensor:
    """x where kept, scaled to keep its mean. The mask takes the scale, which is cheaper than x doing it."""
    return (x * (kept * _inverse(rate, x))).to(x.dtype)


def _inverse(rate: float | Tensor, x: Tensor) -> Tensor:
    """1 / (1 - rate); 1 where the rate is 1, so that nothing is divided by zero."""
    if not isinstance(rate, Tensor):
        return _as_number(1.0 if rate == 1 else 1 / (1 - rate), x)
    keep = 1 - _as_number(rate, x)
    return 1 / torch.where(keep == 0, 1.0, keep)


def _as_number(value: float | Tensor, x: Tensor) -> Tensor:
    """A 0-d tensor in float64 when x is, else in float32: a scale rounded to 16 bits would be biased by 0.2%."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if isinstance(value, Tensor):
        return value.to(dtype)
    return torch.full((), value, dtype=dtype, device=x.device)


def _expand(mask: Tensor, x: Tensor) -> Tensor:
    """A mask over the leading axes of x, with a 1 for each of the others."""
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def _check(x: Tensor, value: float | Tensor, key: Tensor, *, name: str = "rate", high: float = 1.0) -> None:
    _checks.check_floating("x", x)
    _checks.check_setting(name, value, 0.0, high)
    _checks.check_key(key, x)


def _check_spatial(x: Tensor, at_most: int | None = None) -> None:
    if x.ndim < 3 or (at_most is not None and x.ndim > at_most + 2):
        limit = f" with one to {at_most} spatial axes" if at_most else " with at least one spatial axis"
        _checks.fail("x", _checks.describe(x), f"a tensor (N, C, *spatial){limit}")

"""Noise of whole channels, blocks, tokens, paths and layers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _checks, random
from ..random import execution
from .shared import check, check_spatial, drop, drop_to_floor, expand


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
    rate = check(x, rate, key=key)
    check_spatial(x)
    return drop(x, rate, expand(execution.kept(key, tuple(x.shape[:2]), rate), x))


def feature_alpha_dropout(x: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
    """`alpha_dropout` of whole channels: one draw per sample and channel.

    Args:
        x: floating-point (N, C, *spatial), with spatial axes or without; standardised, as SELU's outputs are.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype; zeros for a rate of 1.

    Raises:
        FuncregError: when x has fewer than two axes or is not floating-point, or rate is not in [0, 1].

    >>> feature_alpha_dropout(torch.ones(1, 2, 3), 0.4, key=random.key(0))
    tensor([[[-0.9106, -0.9106, -0.9106],
             [ 1.4704,  1.4704,  1.4704]]])

    Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
    """
    rate = check(x, rate, key=key)
    if x.ndim < 2:
        _checks.fail("x", _checks.describe(x), "a tensor (N, C, *spatial)")
    return drop_to_floor(x, rate, expand(execution.kept(key, tuple(x.shape[:2]), rate), x))


def token_dropout(x: Tensor, rate: float, *, key: Tensor, prefix: int = 0) -> Tensor:
    """Leave out tokens of a sequence, other ones of each sample: patch dropout.

    `max(1, floor(tokens * (1 - rate)))` are kept, in their order. The rate decides the shape of the result, so it
    is a number: one for all samples, not batched.

    Args:
        x: floating-point (N, tokens, features).
        rate: the share left out, in [0, 1].
        key: int64 (2,).
        prefix: how many tokens at the start (class tokens, registers) are always kept and not counted.

    Returns:
        (N, prefix + kept, features), of x's dtype.

    Raises:
        FuncregError: for a wrong x, a rate that is not a number in [0, 1], or a prefix longer than the sequence.

    >>> token_dropout(torch.arange(8.0).reshape(1, 8, 1), 0.5, key=random.key(0), prefix=1).flatten()
    tensor([0., 1., 3., 4.])

    Liu, Matsoukas, Strand, Azizpour and Smith, "PatchDropout", WACV 2023.
    """
    if isinstance(rate, Tensor):
        _checks.fail("rate", _checks.describe(rate), "a number in [0, 1], since it decides the shape of the result")
    rate = check(x, rate, key=key)
    if x.ndim != 3:
        _checks.fail("x", _checks.describe(x), "a tensor (N, tokens, features)")
    _checks.check_count("prefix", prefix, low=0, high=x.shape[1])
    tokens = x.shape[1] - prefix
    if tokens == 0:
        return x
    kept = max(1, int(tokens - tokens * rate + 1e-9))  # of 20 tokens 0.1 is 2, though 1 - 0.9 is less
    order = torch.argsort(random.uniform(key, (x.shape[0], tokens)), dim=1, stable=True)[:, :kept]
    chosen = prefix + torch.sort(order, dim=1).values
    first = torch.arange(prefix, device=x.device).expand(x.shape[0], prefix)
    rows = torch.cat((first, chosen), dim=1).unsqueeze(-1)
    return torch.gather(x, 1, rows.expand(-1, -1, x.shape[2]))


def layer_drop(x: Tensor, skipped: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
    """Drop a whole layer: what it gives, or with probability rate what it was given. Nothing is scaled.

    One draw for all samples. Both are computed; the draw only chooses, so that it may be batched.

    Args:
        x: floating-point, the layer's output.
        skipped: of x's shape, its input.
        rate: drop probability in [0, 1], a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, skipped has another shape, or rate is not in [0, 1].

    >>> layer_drop(torch.ones(2), torch.zeros(2), 0.5, key=random.key(0))
    tensor([0., 0.])

    Fan, Grave and Joulin, "Reducing transformer depth on demand with structured dropout", ICLR 2020.
    """
    rate = check(x, rate, key=key)
    _checks.check_floating("skipped", skipped)
    if skipped.shape != x.shape:
        _checks.fail("skipped", _checks.describe(skipped), f"a tensor of x's shape {tuple(x.shape)}")
    _checks.check_beside("skipped", skipped, x, "x")
    return _checks.spoilt(torch.where(random.uniform(key) >= rate, x, skipped.to(x.dtype)), rate)


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
    rate = check(x, rate, key=key)
    _checks.check_choice("mode", mode, ("row", "batch"))
    if x.ndim == 0:
        _checks.fail("x", _checks.describe(x), "a tensor (N, ...)")
    kept = execution.kept(key, (x.shape[0] if mode == "row" else 1,), rate)
    return drop(x, rate, expand(kept, x))


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
    rate = check(x, rate, key=key)
    check_spatial(x, at_most=3)
    _checks.check_count("block_size", block_size)
    if x.numel() == 0:
        return x
    spatial = x.shape[2:]
    p = torch.as_tensor(rate, dtype=torch.float64, device=x.device).detach()
    starts_at = -torch.expm1(torch.log1p(-p) / block_size ** len(spatial))
    starts = random.uniform(key, (*x.shape[:2], *(length + block_size - 1 for length in spatial))) < starts_at
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(spatial) - 1]
    return drop(x, rate, pool(starts.to(torch.float32), block_size, stride=1) == 0)

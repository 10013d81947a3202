"""SWAG: a Gaussian around the mean of a run's parameters, as wide as the run moves about it.

    averaging = swag(start=1000, every=100, rank=20)
    average = averaging.update(average, params)                # after each step
    params = sample_swag(average, key=key)                     # one draw; several by vmap over keys

Its mean is that of `swa`, its covariance `diag(variance) / 2 + D D^T / (2 (K - 1))`, D the last K deviations.
"""

from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

from .. import _checks, _jit, random, tree
from .._functorch import readable
from ..transforms import Number, core
from ..tree.checks import check_floating, check_like
from ..tree.values import in_own_precision, wide, widest
from .averages import Averaging, counting

_SAME_INIT = "It must come from the init of swag, for these parameters."


class SwagState(NamedTuple):
    """What the parameters that counted were.

    params: their mean; before the first, the latest.
    step: the updates made, int64 ().
    count: those that counted, int64 ().
    variance: of each parameter, around the mean (divided by their number).
    deviations: (rank, ...) for each leaf: the last of them, each less the mean at its time, the latest at the end.
    """

    params: tree.Tree
    step: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.count)
    variance: tree.Tree
    deviations: tree.Tree


def swag(*, start: Number = 0, every: Number = 1, rank: int = 20) -> Averaging[SwagState]:
    """Stochastic weight averaging, Gaussian: the mean of `swa`, with how far the parameters lie from it.

    For `make_step(average=...)`, whose mean `fit` evaluates and `train.sample_variables` draws around; `sample_swag`
    draws from its state. Learning rates that stay constant or cycle from the start on keep the parameters moving.
    It holds rank + 3 times the parameters, and each update writes them all: a few steps, `every`, suffice.

    Args:
        start: updates before the first that counts, at least 0: some three quarters of a run.
        every: of the updates from there on, one in so many counts, at least 1: an epoch's steps, or a cycle's.
        rank: the deviations that are kept, K, at least 2.

    Returns:
        An Averaging, of a SwagState. 16-bit parameters are averaged in float32.

    Raises:
        FuncregError: for a number out of range; from init, for a leaf that is not floating-point
            (the message names it); from update, for another structure.

    >>> averaging = swag(rank=2)
    >>> state = averaging.init({"w": torch.tensor([9.0])})
    >>> for value in (1.0, 2.0, 6.0):
    ...     state = averaging.update(state, {"w": torch.tensor([value])})
    >>> state.params, state.variance, state.deviations
    ({'w': tensor([3.])}, {'w': tensor([4.6667])}, {'w': tensor([[0.5000],
            [3.0000]])})

    Maddox et al., "A simple baseline for Bayesian uncertainty in deep learning", NeurIPS 2019 (algorithm 1; its
    second moment less the mean's square is this variance).
    """
    weight = counting(start, every)
    _checks.check_count("rank", rank, 2)

    def init(params: tree.Tree) -> SwagState:
        check_floating("params", params)
        mean, zero = wide(params), core.zero_step(params)
        deviations = tree.map(lambda leaf: leaf.new_zeros((rank, *leaf.shape)), mean)
        return SwagState(mean, zero, zero.clone(), tree.zeros_like(mean), deviations)

    def update(state: SwagState, params: tree.Tree) -> SwagState:
        check_swag("state", state, rank)
        check_like("params", params, "state.params", state.params)
        step = state.step + 1
        share, counts = weight(step.to(torch.float64))
        shares = core.Scalars(share, 1 - share)

        def spread(variance: Tensor, mean: Tensor, new: Tensor) -> Tensor:
            own, rest = shares.like(mean)
            return rest * (variance + own * (new - mean) ** 2)

        new = tree.map(lambda mean, leaf: leaf.to(mean.dtype), state.params, params)
        mean = tree.map(lambda mean, leaf: torch.lerp(mean, leaf, shares.like(mean)[0]), state.params, new)
        deviations = tree.map(
            lambda columns, mean, leaf: torch.where(counts, torch.cat((columns[1:], (leaf - mean)[None])), columns),
            *(state.deviations, mean, new),
        )
        variance = tree.map(spread, state.variance, state.params, new)
        return SwagState(mean, step, state.count + counts, variance, deviations)

    return Averaging(init, update)


def sample_swag(state: SwagState, *, key: Tensor, scale: Number = 1.0) -> tree.Tree:
    """A draw of the parameters: `mean + sqrt(variance / 2) z + D z' / sqrt(2 (K - 1))`, z and z' standard normal.

    D are the last K deviations, or as many as there were. Batch statistics fit no draw: `refresh_statistics`.

    Args:
        state: of `swag`, after at least two updates that counted; of one member: with several, vmap.
        key: int64 (2,).
        scale: of the covariance, at least 0: 1 is the paper's; a number or a tensor of shape ().

    Returns:
        A tree like the mean, 16-bit parameters in float32.

    Raises:
        FuncregError: for what is not such a state, or one of fewer updates that counted; in a compiled program, and on
            a GPU, its draws are NaN instead.

    >>> averaging = swag()
    >>> state = averaging.init({"w": torch.zeros(2)})
    >>> for value in range(5):
    ...     state = averaging.update(state, {"w": torch.tensor([value, 2.0])})
    >>> sample_swag(state, key=random.key(0))  # of what did not move, the mean
    {'w': tensor([..., 2.0000])}

    Maddox et al., "A simple baseline for Bayesian uncertainty in deep learning", NeurIPS 2019 (equation 1).
    """
    check_swag("state", state)
    _checks.check_key(key, state.step)
    scale = _checks.check_setting("scale", scale)
    flat = tree.leaves(state.params)
    count = None if _jit.compiling() else readable(state.count)
    if count is not None and bool((count < 2).any()):
        remedy = "Sample after more steps, or let an earlier start and a smaller every count them."
        _checks.fail("state", f"one of {int(count.min())} parameters that counted", "at least 2", remedy)
    columns = tree.leaves(state.deviations)[0].shape[0]
    known = torch.where(state.count < 2, torch.nan, state.count.clamp(max=columns).to(torch.float64))
    factors = core.Scalars(core.root(scale * torch.full_like(known, 0.5)), core.root(scale / (2 * (known - 1))))

    own, shared = random.split(key)
    draws = random.normal(own, (tree.count(flat),), dtype=widest(flat)).split([leaf.numel() for leaf in flat])
    along = random.normal(shared, (columns,), dtype=widest(flat))

    def drawn(mean: Tensor, variance: Tensor, deviations: Tensor, z: Tensor) -> Tensor:
        diagonal, low_rank = factors.like(mean)
        moved = in_own_precision(torch.tensordot)(along.to(deviations.dtype), deviations, 1)
        return mean + diagonal * (core.root(variance) * z.to(mean.dtype).view_as(mean)) + low_rank * moved

    independent = optree.tree_unflatten(optree.tree_structure(state.params), draws)
    return tree.map(drawn, state.params, state.variance, state.deviations, independent)


def check_swag(argument: str, state: Any, rank: int | None = None) -> None:
    """Refuse what is not a state of swag, of this rank where there is one.

    >>> check_swag("state", swag(rank=2).init({"w": torch.zeros(1)}), rank=2)
    """
    core.check_state(state, SwagState, params=None, variance=None, deviations=None)
    mean = state.params
    check_floating(f"{argument}.params", mean)
    if not tree.leaves(mean):
        _checks.fail(f"{argument}.params", "no leaves", "a tree of floating-point tensors")
    check_like(f"{argument}.variance", state.variance, f"{argument}.params", mean, _SAME_INIT, dtypes=True)
    first = tree.leaves(state.deviations)[:1]
    found = [leaf.shape[0] for leaf in first if isinstance(leaf, Tensor) and leaf.ndim]
    rank = max([2, *found]) if rank is None else rank
    columns = tree.map(lambda leaf: leaf.expand(rank, *leaf.shape), mean)
    check_like(f"{argument}.deviations", state.deviations, f"{rank} of the mean", columns, _SAME_INIT, dtypes=True)

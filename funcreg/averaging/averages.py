"""Averages of parameters over the steps of a run."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from .. import _checks, tree
from ..transforms import Number, core
from ..tree.checks import check_floating, check_like
from ..tree.values import wide

S = TypeVar("S")


class AverageState(NamedTuple):
    """`params`: the average so far; `step`: the updates made, int64 ()."""

    params: tree.Tree
    step: Tensor


class Averaging(NamedTuple, Generic[S]):
    """`init(params) -> state`; `update(state, params) -> state`: an AverageState, of `swag` a SwagState."""

    init: Callable[[tree.Tree], S]
    update: Callable[[S, tree.Tree], S]


def ema(decay: Number, *, debias: bool = False) -> Averaging[AverageState]:
    """Exponential moving average: decay * average + (1 - decay) * params.

    It starts from the parameters that init gets. With debias it forgets them, as Adam's moments are
    corrected: after t updates each has the weight (1 - decay) * decay**age / (1 - decay**t).

    Args:
        decay: in [0, 1]. With debias, 1 gives the plain mean.
        debias: correct for the start.

    Returns:
        An Averaging. 16-bit parameters are averaged in float32.

    Raises:
        FuncregError: for a number out of range; from init, for a leaf that is not floating-point
            (the message names it); from update, for another structure.

    >>> averaging = ema(0.75)
    >>> state = averaging.init({"w": torch.tensor([0.0])})
    >>> averaging.update(state, {"w": torch.tensor([4.0])}).params
    {'w': tensor([1.])}

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017.
    """
    decay = _checks.check_setting("decay", decay, 0.0, 1.0)
    _checks.check_choice("debias", debias, (True, False))
    kept = core.exact(decay)

    def weight(t: Tensor) -> Number:
        if not debias:
            return 1 - kept
        total = 1 - kept**t
        # A decay of 1 is the limit: 0 / 0 would be 1 / t.
        return torch.where(total == 0, 1 / t, (1 - kept) / torch.where(total == 0, 1.0, total))

    return _averaging(weight)


def swa(*, start: Number = 0, every: Number = 1) -> Averaging[AverageState]:
    """Stochastic weight averaging: the plain mean of the parameters of the updates after `start`, each or some.

    Until then, the average is the latest parameters; they do not count.

    Args:
        start: updates before the first that counts, at least 0: some three quarters of a run.
        every: of the updates from there on, one in so many counts, at least 1: an epoch's steps, or a cycle's.

    Returns:
        An Averaging. 16-bit parameters are averaged in float32.

    Raises:
        FuncregError: for a number out of range; from init, for a leaf that is not floating-point
            (the message names it); from update, for another structure.

    >>> averaging = swa()
    >>> state = averaging.init({"w": torch.tensor([9.0])})
    >>> for value in (1.0, 2.0, 6.0):
    ...     state = averaging.update(state, {"w": torch.tensor([value])})
    >>> state.params
    {'w': tensor([3.])}

    Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018.
    """
    weight = counting(start, every)
    return _averaging(lambda t: weight(t)[0])


def counting(start: Number, every: Number) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """t -> (the weight of the t-th update in a plain mean, a float64; whether it counts): some after the start.

    >>> weight = counting(1, 2)
    >>> [float(weight(torch.tensor(t).double())[0]) for t in (1, 2, 3, 4)]
    [1.0, 1.0, 0.0, 0.5]
    """
    start = _checks.check_setting("start", start)
    every = _checks.check_setting("every", every, 1.0)

    def weight(t: Tensor) -> tuple[Tensor, Tensor]:
        later = torch.floor(t - start) - 1
        counted = torch.floor(later / every).clamp(min=0.0)
        counts = (later >= 0) & (counted > torch.floor((later - 1) / every))
        share = torch.where(later < 0, 1.0, torch.where(counts, 1 / (counted + 1), 0.0))
        return _checks.spoilt(share, start, every), counts

    return weight


def _averaging(weight: Callable[[Tensor], Number]) -> Averaging[AverageState]:
    """The average that its t-th update, counting from 1, moves by weight(t), a float64."""

    def init(params: tree.Tree) -> AverageState:
        check_floating("params", params)
        return AverageState(wide(params), core.zero_step(params))

    def update(state: AverageState, params: tree.Tree) -> AverageState:
        core.check_state(state, AverageState, params=None)
        check_like("params", params, "state.params", state.params)
        step = state.step + 1
        share = core.Scalars(weight(step.to(torch.float64)))
        average = tree.map(lambda a, w: torch.lerp(a, w.to(a.dtype), *share.like(a)), state.params, params)
        return AverageState(average, step)

    return Averaging(init, update)

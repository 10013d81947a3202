"""Averages of parameters over the steps of a run, and the batch statistics that fit them.

    averaging = ema(0.999)
    average = averaging.init(params)
    average = averaging.update(average, params)    # after each step
    model.apply(average.params, state, x)

Both move the average towards the new parameters by a weight: `average + weight * (params - average)`.
Batch statistics belong to the parameters that they were taken with: `refresh_statistics` afterwards.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _checks, random, tree
from .model import Model, Params, State
from .transforms import Number, core
from .tree.checks import check_floating, check_like
from .tree.values import wide

__all__ = ["AverageState", "Averaging", "ema", "refresh_statistics", "swa"]


class AverageState(NamedTuple):
    """`params`: the average so far; `step`: the updates made, int64 ()."""

    params: tree.Tree
    step: Tensor


class Averaging(NamedTuple):
    """`init(params) -> AverageState`; `update(state, params) -> AverageState`."""

    init: Callable[[tree.Tree], AverageState]
    update: Callable[[AverageState, tree.Tree], AverageState]


def ema(decay: Number, *, debias: bool = False) -> Averaging:
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


def swa(*, start: Number = 0, every: Number = 1) -> Averaging:
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
    start = _checks.check_setting("start", start)
    every = _checks.check_setting("every", every, 1.0)

    def weight(t: Tensor) -> Tensor:
        later = torch.floor(t - start) - 1
        counted = torch.floor(later / every).clamp(min=0.0)
        counts = counted > torch.floor((later - 1) / every)
        share = torch.where(later < 0, 1.0, torch.where(counts, 1 / (counted + 1), 0.0))
        return _checks.spoilt(share, start, every)

    return _averaging(weight)


@torch.no_grad()
def refresh_statistics(model: Model, params: Params, state: State, batches: Iterable[Any], *, key: Tensor) -> State:
    """The batch statistics of these parameters: each layer's mean over all batches, as `swa_utils.update_bn`.

    The model runs in training, with its noise on, and its old statistics are forgotten.

    Args:
        model: from `fr.from_module`.
        params: for instance an average's.
        state: the model's; its statistics may be any.
        batches: inputs; of a tuple or list, such as `Batch(x, y)`, the first element.
        key: int64 (2,); batch i draws its noise from `random.fold_in(key, i)`.

    Returns:
        The new state.

    Raises:
        FuncregError: when there is no batch, or nothing in the state that batches change.

    >>> import funcreg as fr
    >>> model = fr.from_module(lambda: torch.nn.BatchNorm1d(1))
    >>> params, state = model.init(fr.random.key(0))
    >>> batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])]
    >>> refresh_statistics(model, params, state, batches, key=fr.random.key(1))["running_mean"]
    tensor([3.5000])
    """
    _checks.check_key(key)
    if not any(map(_is_statistic, state)):
        _checks.fail("state", "no running statistics", "the state of a model with batch norm", "Nothing needs it.")
    state = {name: torch.zeros_like(leaf) if _is_statistic(name) else leaf for name, leaf in state.items()}
    seen = 0
    for batch in batches:
        x = batch[0] if isinstance(batch, tuple | list) else batch
        noise = random.fold_in(key, seen)
        seen += 1
        # The mean of so many batches, moved by the share of one more.
        share = torch.tensor(1 / seen, dtype=torch.float64)
        _, state = model.apply(params, state, x, key=noise, train=True, momentum=share)
    if not seen:
        _checks.fail("batches", "none", "at least one batch of inputs")
    return state


def _averaging(weight: Callable[[Tensor], Number]) -> Averaging:
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


def _is_statistic(name: str) -> bool:
    return name.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")

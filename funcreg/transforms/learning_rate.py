"""The last transform of an optimizer: minus the learning rate, a number or a schedule."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .. import _checks, tree
from . import core
from .core import Number, Transform

Schedule = Callable[[Tensor], Number]


class ScheduleState(NamedTuple):
    """`step`: the updates made, int64 ()."""

    step: Tensor


def scale_by_learning_rate(lr: Number | Schedule) -> Transform:
    """Multiply by -lr, which turns a direction of ascent into a step down.

    Args:
        lr: at least 0; or a schedule, a function of the number of updates made (an int64 tensor).

    Returns:
        A Transform, with a ScheduleState when lr is a schedule.

    Raises:
        FuncregError: for a negative number.

    >>> import torch
    >>> updates, _ = scale_by_learning_rate(0.1).update({"w": torch.ones(2)}, (), None)
    >>> updates
    {'w': tensor([-0.1000, -0.1000])}
    """
    if callable(lr):
        return _scale_by_schedule(lr)
    _checks.check_setting("lr", lr)

    def update(grads: tree.Tree, state: tuple[()], params: tree.Tree) -> tuple[tree.Tree, tuple[()]]:
        return core.scaled(grads, -lr), state

    return Transform(core.no_state, update)


def _scale_by_schedule(schedule: Schedule) -> Transform:
    def init(params: tree.Tree) -> ScheduleState:
        return ScheduleState(core.zero_step(params))

    def update(grads: tree.Tree, state: ScheduleState, params: tree.Tree) -> tuple[tree.Tree, ScheduleState]:
        return core.scaled(grads, -schedule(state.step)), ScheduleState(state.step + 1)

    return Transform(init, update)

"""Multiples of the updates, by a number or a schedule; an optimizer ends with minus its learning rate."""

import math
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


def scale(factor: Number) -> Transform:
    """Multiply by a number, such as a group's share of the learning rate.

    Args:
        factor: any; below 0 it turns round.

    Returns:
        A Transform without state.

    Raises:
        FuncregError: for what is not a finite number.

    >>> import torch
    >>> updates, _ = scale(0.5).update({"w": torch.ones(2)}, (), None)
    >>> updates
    {'w': tensor([0.5000, 0.5000])}
    """
    factor = _checks.check_setting("factor", factor, -math.inf)

    return core.stateless(lambda grads, params: core.scaled(grads, factor))


def scale_by_schedule(schedule: Schedule) -> Transform:
    """Multiply by a number that changes from update to update.

    Args:
        schedule: a function of the number of updates made (an int64 tensor) that gives the factor of the next.

    Returns:
        A Transform with a ScheduleState.

    Raises:
        FuncregError: for what cannot be called.

    >>> import torch
    >>> transform, grads = scale_by_schedule(lambda step: 1 / (1 + step)), {"w": torch.ones(1)}
    >>> state = transform.init(grads)
    >>> for _ in range(2):
    ...     updates, state = transform.update(grads, state, grads)
    >>> updates
    {'w': tensor([0.5000])}
    """
    _checks.check_callable("schedule", schedule, "a function of the number of updates made")

    def init(params: tree.Tree) -> ScheduleState:
        return ScheduleState(core.zero_step(params))

    def update(grads: tree.Tree, state: ScheduleState, params: tree.Tree) -> tuple[tree.Tree, ScheduleState]:
        core.check_state(state, ScheduleState)
        factor = _checks.check_setting("schedule", schedule(state.step), -math.inf)
        return core.scaled(grads, factor), ScheduleState(state.step + 1)

    return core.transform(init, update)


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
        _checks.check_callable("lr", lr, "a number, or a function of the number of updates made")
        return scale_by_schedule(lambda step: -lr(step))._replace(rates=lambda state: {"": lr(state.step)})
    rate = _checks.check_setting("lr", lr)
    return scale(-rate)._replace(rates=lambda state: {"": rate})

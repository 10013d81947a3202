"""Transforms of a transform, which decide when it acts: on finite gradients, on the mean of several."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from .core import Transform, check_transform, zero_step


class SkipState(NamedTuple):
    """`inner`: the transform's own state; `skipped`: the updates left out, int64 ()."""

    inner: Any
    skipped: Tensor


class AccumulateState(NamedTuple):
    """`inner`: the transform's own state; `total`: the sum of `count` gradients, count int64 ()."""

    inner: Any
    total: tree.Tree
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.count)


def skip_nonfinite(transform: Transform) -> Transform:
    """Leave out an update when any number of the gradients, the updates or the new state is not finite.

    A skipped update is zero and leaves the transform's state as it was.

    Args:
        transform: usually a whole optimizer.

    Returns:
        A Transform with a SkipState, whose `skipped` counts.

    Raises:
        FuncregError: for what is not a Transform.

    >>> from funcreg import optim
    >>> params, optimizer = {"w": torch.ones(2)}, skip_nonfinite(optim.sgd(0.1))
    >>> updates, state = optimizer.update({"w": torch.tensor([1.0, torch.inf])}, optimizer.init(params), params)
    >>> updates, state.skipped
    ({'w': tensor([0., 0.])}, tensor(1))
    """
    check_transform("transform", transform)

    def init(params: tree.Tree) -> SkipState:
        return SkipState(transform.init(params), zero_step(params))

    def update(grads: tree.Tree, state: SkipState, params: tree.Tree) -> tuple[tree.Tree, SkipState]:
        updates, inner = transform.update(grads, state.inner, params)
        good = torch.stack([leaf.isfinite().all() for leaf in tree.leaves((grads, updates, inner))]).all()
        updates = tree.where(good, updates, tree.zeros_like(updates))
        return updates, SkipState(tree.where(good, inner, state.inner), state.skipped + ~good)

    return Transform(init, update)


def accumulate(transform: Transform, steps: int | Tensor) -> Transform:
    """Act on the mean of the gradients of `steps` micro-batches, once in `steps` updates; zero between.

    The same as one batch of them all, for a loss that is a mean over examples and micro-batches of
    one size. Learning-rate schedules count the transform's own updates. 16-bit gradients are summed
    in float32.

    Args:
        transform: usually a whole optimizer.
        steps: at least 1; an integer, or an integer tensor of shape ().

    Returns:
        A Transform with an AccumulateState.

    Raises:
        FuncregError: for what is not a Transform, or steps that are not such an integer.

    >>> from funcreg import optim
    >>> params, optimizer = {"w": torch.ones(1)}, accumulate(optim.sgd(0.1), 2)
    >>> state = optimizer.init(params)
    >>> for gradient in (1.0, 3.0):
    ...     updates, state = optimizer.update({"w": torch.tensor([gradient])}, state, params)
    ...     print(updates)
    {'w': tensor([0.])}
    {'w': tensor([-0.2000])}
    """
    check_transform("transform", transform)
    if not isinstance(steps, Tensor):
        _checks.check_count("steps", steps)
    elif steps.ndim or steps.is_floating_point() or steps.dtype == torch.bool:
        _checks.fail("steps", _checks.describe(steps), "an integer or an integer tensor of shape ()")

    def init(params: tree.Tree) -> AccumulateState:
        total = tree.map(lambda w: torch.zeros_like(w, dtype=torch.promote_types(w.dtype, torch.float32)), params)
        return AccumulateState(transform.init(params), total, zero_step(params))

    def update(grads: tree.Tree, state: AccumulateState, params: tree.Tree) -> tuple[tree.Tree, AccumulateState]:
        total = tree.map(torch.add, state.total, grads)
        mean = tree.map(lambda t, g: (t / steps).to(g.dtype), total, grads)
        # Taken every time: a condition in Python would have to read the count.
        updates, inner = transform.update(mean, state.inner, params)
        due = state.count + 1 >= steps
        updates = tree.where(due, updates, tree.zeros_like(updates))
        total = tree.where(due, tree.zeros_like(total), total)
        inner = tree.where(due, inner, state.inner)
        return updates, AccumulateState(inner, total, torch.where(due, 0, state.count + 1))

    return Transform(init, update)

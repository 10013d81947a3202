"""Transforms of a transform: when it acts (on finite gradients, on the mean of several), and on which weights."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.checks import check_floating
from ..tree.values import wide
from . import core
from .core import Transform, zero_step


class SkipState(NamedTuple):
    """`inner`: the transform's own state; `skipped`: the updates left out, int64 ()."""

    inner: Any
    skipped: Tensor


class AccumulateState(NamedTuple):
    """`inner`: the transform's own state; `total`: the sum of `count` gradients, count int64 ()."""

    inner: Any
    total: tree.Tree
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.count)


class MasterState(NamedTuple):
    """`inner`: the transform's own state; `exact`: float32 parameters; `rounded`: what they are in 16 bits."""

    inner: Any
    exact: tree.Tree
    rounded: tree.Tree


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
    core.check_transform("transform", transform)

    def init(params: tree.Tree) -> SkipState:
        return SkipState(transform.init(params), zero_step(params))

    def update(grads: tree.Tree, state: SkipState, params: tree.Tree) -> tuple[tree.Tree, SkipState]:
        core.check_state(state, SkipState, inner=None)
        updates, inner = transform.update(grads, state.inner, params)
        each = [leaf.isfinite().all() for leaf in tree.leaves((grads, updates, inner))]
        good = torch.stack([*each, torch.ones_like(state.skipped, dtype=torch.bool)]).all()
        updates = tree.where(good, updates, tree.zeros_like(updates))
        return updates, SkipState(tree.where(good, inner, state.inner), state.skipped + ~good)

    # Not `core.transform`: what is finite in float32 may not be so in the gradients' 16 bits.
    return Transform(init, update, lambda state: transform.rates(state.inner))


def accumulate(transform: Transform, steps: int | Tensor) -> Transform:
    """Act on the mean of the gradients of `steps` micro-batches, once in `steps` updates; zero between.

    The same as one batch of them all, for a loss that is a mean over examples and micro-batches of
    one size. Learning-rate schedules count the transform's own updates.

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
    core.check_transform("transform", transform)
    if not isinstance(steps, Tensor):
        _checks.check_count("steps", steps)
    else:
        _checks.check_integers("steps", steps, ndim=0)

    def init(params: tree.Tree) -> AccumulateState:
        return AccumulateState(transform.init(params), tree.zeros_like(params), zero_step(params))

    def update(grads: tree.Tree, state: AccumulateState, params: tree.Tree) -> tuple[tree.Tree, AccumulateState]:
        core.check_state(state, AccumulateState, inner=None, total=grads)
        total = tree.map(torch.add, state.total, grads)
        mean = tree.map(lambda t: (t / steps).to(t.dtype), total)
        # Taken every time: a condition in Python would have to read the count.
        updates, inner = transform.update(mean, state.inner, params)
        due = state.count + 1 >= steps
        updates = tree.where(due, updates, tree.zeros_like(updates))
        total = tree.where(due, tree.zeros_like(total), total)
        inner = tree.where(due, inner, state.inner)
        return updates, AccumulateState(inner, total, torch.where(due, 0, state.count + 1))

    return core.transform(init, update)._replace(rates=lambda state: transform.rates(state.inner))


def master_weights(transform: Transform) -> Transform:
    """Move float32 parameters, of which the 16-bit ones are the rounding.

    A 16-bit parameter does not feel an update of less than half of its last bit, 0.2% of it in
    bfloat16, however often it comes. With this the updates bring it to where the float32 parameters
    are, rounded. Entries that something else moved, such as a constraint, go on from there.
    `fr.train` adds it where parameters have 16 bits.

    Args:
        transform: a whole optimizer.

    Returns:
        A Transform with a MasterState, whose updates are float32; as transform itself, with its state,
        where no parameter has 16 bits.

    Raises:
        FuncregError: for what is not a Transform.

    >>> from funcreg import optim
    >>> for optimizer in (optim.sgd(0.001), master_weights(optim.sgd(0.001))):
    ...     params = {"w": torch.ones(1, dtype=torch.bfloat16)}
    ...     state = optimizer.init(params)
    ...     for _ in range(500):
    ...         updates, state = optimizer.update(tree.map(torch.ones_like, params), state, params)
    ...         params = optim.apply_updates(params, updates)
    ...     print(params)
    {'w': tensor([1.], dtype=torch.bfloat16)}
    {'w': tensor([0.5000], dtype=torch.bfloat16)}

    Micikevicius et al., "Mixed precision training", ICLR 2018.
    """
    core.check_transform("transform", transform)

    def init(params: tree.Tree) -> Any:
        if not _has_halves(params):
            return transform.init(params)
        check_floating("params", params)
        exact = tree.map(torch.clone, wide(params))
        return MasterState(transform.init(exact), exact, tree.map(torch.clone, params))

    def update(grads: tree.Tree, state: Any, params: tree.Tree) -> tuple[tree.Tree, Any]:
        core.check_given(params)
        if not _has_halves(params):
            return transform.update(grads, state, params)
        core.check_structure(grads, params)
        core.check_state(state, MasterState, inner=None, exact=params, rounded=params)
        exact = tree.map(lambda w, r, e: torch.where(w == r, e, w.to(e.dtype)), params, state.rounded, state.exact)
        updates, inner = transform.update(tree.map(lambda g, e: g.to(e.dtype), grads, exact), state.inner, exact)
        exact = tree.map(torch.add, exact, updates)
        updates = tree.map(lambda w, e: e.to(w.dtype).to(e.dtype) - w, params, exact)
        rounded = tree.map(lambda w, u: (w + u).to(w.dtype), params, updates)
        return updates, MasterState(inner, exact, rounded)

    def rates(state: Any) -> dict[str, core.Number]:
        return transform.rates(state.inner if isinstance(state, MasterState) else state)

    return Transform(init, update, rates)


def _has_halves(params: tree.Tree) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.dtype.itemsize == 2 for leaf in tree.leaves(params))

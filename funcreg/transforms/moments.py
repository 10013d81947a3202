"""Transforms that average gradients over time: momentum, Adam's two moments, RMSprop's."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.structure import flatten_up_to, unflatten
from . import core
from .core import Number, Transform


class MomentumState(NamedTuple):
    """`buffer`: the running sum of gradients; `step`: the updates made, int64 ()."""

    buffer: tree.Tree
    step: Tensor


class AdamState(NamedTuple):
    """`mean`, `square`: moving averages of g and g * g; `step`: the updates made, int64 ().

    `scale` and `offset`, float64 (), are the last update's bias corrections. They are derived, and
    kept because what a compiled program returns it computes once; what it does not, anew for every
    sixteen weights, which took a quarter of a step.
    """

    mean: tree.Tree
    square: tree.Tree
    step: Tensor
    scale: Tensor
    offset: Tensor


class RmsState(NamedTuple):
    """`square`, `mean`: moving averages of g * g and g; mean is `()` where it is not centered."""

    square: tree.Tree
    mean: tree.Tree


def momentum(decay: Number, *, dampening: Number = 0.0, nesterov: bool = False) -> Transform:
    """A running sum of gradients: b = decay * b + (1 - dampening) * g, and b = g at first; gives b.

    With nesterov: g + decay * b. As `torch.optim.SGD` (Sutskever et al. 2013).

    Args:
        decay: in [0, 1]. The number 0 gives gradients as they are.
        dampening: in [0, 1].
        nesterov: look ahead; needs dampening 0.

    Returns:
        A Transform with a MomentumState; `()` for the number 0.

    Raises:
        FuncregError: for a number out of range, or nesterov with dampening.

    >>> transform, params = momentum(0.9), {"w": torch.zeros(1)}
    >>> state = transform.init(params)
    >>> for _ in range(2):
    ...     updates, state = transform.update({"w": torch.ones(1)}, state, params)
    >>> updates
    {'w': tensor([1.9000])}
    """
    decay = _checks.check_setting("decay", decay, 0.0, 1.0)
    dampening = _checks.check_setting("dampening", dampening, 0.0, 1.0)
    _checks.check_choice("nesterov", nesterov, (True, False))
    if nesterov and not isinstance(dampening, Tensor) and dampening != 0:
        _checks.fail("dampening", dampening, "0 when nesterov=True")
    if nesterov:
        dampening = _checks.check_setting("dampening", dampening, 0.0, 0.0)

    def init(params: tree.Tree) -> Any:
        return () if core.is_zero(decay) else MomentumState(tree.zeros_like(params), core.zero_step(params))

    def update(grads: tree.Tree, state: Any, params: tree.Tree) -> tuple[tree.Tree, Any]:
        if core.is_zero(decay) and core.is_nothing(state):
            return grads, state
        core.check_state(state, MomentumState, buffer=grads)
        if core.is_zero(decay):
            return grads, state
        scalar, new = core.Scalars(decay), grads
        if not core.is_zero(dampening):
            # A decay of 0 gives gradients as they are, so nothing is dampened then.
            damped = (state.step > 0) & (core.exact(decay) != 0)
            weight = core.Scalars(1 - core.exact(dampening) * damped.to(torch.float64))
            new = tree.map(lambda g: g * weight.like(g)[0], grads)
        buffer = tree.map(lambda g, b: core.add_scaled(g, b, scalar), new, state.buffer)
        updates = tree.map(lambda g, b: core.add_scaled(g, b, scalar), grads, buffer) if nesterov else buffer
        return updates, MomentumState(buffer, state.step + 1)

    return core.transform(init, update)


def scale_by_adam(b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Transform:
    """Adam's direction: m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps).

    m and v are the moving averages of g and g * g, t counts from 1. Kingma and Ba 2015
    (arXiv:1412.6980). Differentiable where a gradient is 0, which sqrt alone is not. A weight whose g * g
    overflows (in float32 from 1.8e19 on) moves no more: clip what may be so large first.

    Args:
        b1, b2: in [0, 1).
        eps: at least 0.

    Returns:
        A Transform with an AdamState.

    Raises:
        FuncregError: for a number out of range.

    >>> transform, params = scale_by_adam(), {"w": torch.zeros(2)}
    >>> updates, _ = transform.update({"w": torch.tensor([0.1, -20.0])}, transform.init(params), params)
    >>> updates
    {'w': tensor([ 1.0000, -1.0000])}
    """
    b1, b2 = core.check_betas(b1, b2)
    eps = _checks.check_setting("eps", eps)
    low, high = core.exact(b1), core.exact(b2)

    def init(params: tree.Tree) -> AdamState:
        step = core.zero_step(params)
        none = torch.zeros_like(step, dtype=torch.float64)
        return AdamState(tree.zeros_like(params), tree.zeros_like(params), step, none, none)

    def update(grads: tree.Tree, state: AdamState, params: tree.Tree) -> tuple[tree.Tree, AdamState]:
        core.check_state(state, AdamState, mean=grads, square=grads)
        step = state.step + 1
        t = step.to(torch.float64)
        # The two corrections as one scale and one offset: half the work on each leaf.
        correction = 1 - low**t
        scale, offset = correction / torch.sqrt(1 - high**t), eps * correction
        scalars = core.Scalars(1 - low, 1 - high, scale, offset)
        flat, means, squares = flatten_up_to(grads, state.mean, state.square)
        updates: list[Any] = []
        for index, g in enumerate(flat):
            new_mean, new_square, by, plus = scalars.like(g)
            means[index] = mean = torch.lerp(means[index], g, new_mean)
            squares[index] = square = torch.lerp(squares[index], g * g, new_square)
            updates.append(mean / torch.addcmul(plus, core.root(square), by))
        new = AdamState(unflatten(grads, means), unflatten(grads, squares), step, scale, offset)
        return unflatten(grads, updates), new

    return core.transform(init, update)


def scale_by_rms(decay: Number = 0.99, eps: Number = 1e-8, *, centered: bool = False) -> Transform:
    """RMSprop's direction: g / (sqrt(v) + eps), v the moving average of g * g, which starts at 0.

    centered: the variance instead, v - m * m with m the moving average of g (Graves 2013,
    arXiv:1308.0850). Tieleman and Hinton 2012 (lecture 6.5). Differentiable where a gradient is 0.

    Args:
        decay: in [0, 1).
        eps: at least 0.
        centered: subtract the squared mean.

    Returns:
        A Transform with an RmsState.

    Raises:
        FuncregError: for a number out of range.

    >>> transform, params = scale_by_rms(0.75), {"w": torch.zeros(2)}
    >>> updates, _ = transform.update({"w": torch.tensor([0.1, -20.0])}, transform.init(params), params)
    >>> updates
    {'w': tensor([ 2.0000, -2.0000])}
    """
    decay = _checks.check_setting("decay", decay, 0.0, 1.0, exclusive="high")
    eps = _checks.check_setting("eps", eps)
    _checks.check_choice("centered", centered, (True, False))
    weight = core.Scalars(1 - core.exact(decay), eps)

    def init(params: tree.Tree) -> RmsState:
        return RmsState(tree.zeros_like(params), tree.zeros_like(params) if centered else ())

    def moved(average: Tensor, new: Tensor) -> Tensor:
        return torch.lerp(average, new, weight.like(new)[0])

    def scaled(g: Tensor, variance: Tensor) -> Tensor:
        return g / (core.root(variance) + weight.like(g)[1])

    def update(grads: tree.Tree, state: RmsState, params: tree.Tree) -> tuple[tree.Tree, RmsState]:
        core.check_state(state, RmsState, square=grads, mean=grads if centered else ())
        square = tree.map(lambda v, g: moved(v, g * g), state.square, grads)
        if not centered:
            return tree.map(scaled, grads, square), RmsState(square, ())
        mean = tree.map(moved, state.mean, grads)
        variance = tree.map(lambda v, m: v - m * m, square, mean)
        return tree.map(scaled, grads, variance), RmsState(square, mean)

    return core.transform(init, update)

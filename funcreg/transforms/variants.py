"""More directions made of moving averages: Lion's, NAdam's, RAdam's."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.values import sign
from . import core
from .core import Number, Transform


class LionState(NamedTuple):
    """`mean`: the moving average of gradients."""

    mean: tree.Tree


class NadamState(NamedTuple):
    """`mean`, `square`: moving averages of g and g * g; `product`: of the momenta so far, float64 (); `step`: int64."""

    mean: tree.Tree
    square: tree.Tree
    product: Tensor
    step: Tensor


class RadamState(NamedTuple):
    """`mean`, `square`: moving averages of g and g * g; `step`: the updates made, int64 ()."""

    mean: tree.Tree
    square: tree.Tree
    step: Tensor


def scale_by_lion(b1: Number = 0.9, b2: Number = 0.99) -> Transform:
    """Lion's direction: sign(b1 * m + (1 - b1) * g), then m = b2 * m + (1 - b2) * g. Its slope is 0.

    Args:
        b1, b2: in [0, 1).

    Returns:
        A Transform with a LionState.

    Raises:
        FuncregError: for a number out of range.

    >>> transform, params = scale_by_lion(), {"w": torch.zeros(2)}
    >>> updates, _ = transform.update({"w": torch.tensor([0.1, -20.0])}, transform.init(params), params)
    >>> updates
    {'w': tensor([ 1., -1.])}

    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """
    b1, b2 = core.check_betas(b1, b2)
    low, high = (core.Scalars(1 - core.exact(b)) for b in (b1, b2))

    def init(params: tree.Tree) -> LionState:
        return LionState(tree.zeros_like(params))

    def update(grads: tree.Tree, state: LionState, params: tree.Tree) -> tuple[tree.Tree, LionState]:
        core.check_state(state, LionState, mean=grads)
        updates = tree.map(lambda m, g: sign(_moved(m, g, low)), state.mean, grads)
        return updates, LionState(tree.map(lambda m, g: _moved(m, g, high), state.mean, grads))

    return core.transform(init, update)


def scale_by_nadam(
    b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, *, momentum_decay: Number = 4e-3
) -> Transform:
    """Adam's direction with Nesterov's momentum.

    (mu * m / (1 - M * mu) + (1 - mu_t) * g / (1 - M)) / (sqrt(v / (1 - b2**t)) + eps), with the momentum
    mu_t = b1 * (1 - 0.96**(t * momentum_decay) / 2), mu = mu_{t+1} and M the product of mu_1 to mu_t.
    As `torch.optim.NAdam`.

    Args:
        b1, b2: in [0, 1).
        eps: at least 0.
        momentum_decay: at least 0; how soon the momentum is b1. 0: it is b1 / 2 throughout.

    Returns:
        A Transform with a NadamState.

    Raises:
        FuncregError: for a number out of range.

    >>> transform, params = scale_by_nadam(), {"w": torch.zeros(1)}
    >>> updates, _ = transform.update({"w": torch.tensor([7.0])}, transform.init(params), params)
    >>> updates
    {'w': tensor([1.0565])}

    Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """
    b1, b2 = core.check_betas(b1, b2)
    eps = _checks.check_setting("eps", eps)
    momentum_decay = _checks.check_setting("momentum_decay", momentum_decay)
    low, high, pace = core.exact(b1), core.exact(b2), core.exact(momentum_decay)

    def init(params: tree.Tree) -> NadamState:
        step = core.zero_step(params)
        return NadamState(
            tree.zeros_like(params), tree.zeros_like(params), torch.ones_like(step, dtype=torch.float64), step
        )

    def update(grads: tree.Tree, state: NadamState, params: tree.Tree) -> tuple[tree.Tree, NadamState]:
        core.check_state(state, NadamState, mean=grads, square=grads)
        step = state.step + 1
        t = step.to(torch.float64)
        now, following = (low * (1 - 0.5 * 0.96 ** (each * pace)) for each in (t, t + 1))
        product = state.product * now
        by = core.Scalars((1 - now) / (1 - product), following / (1 - product * following), 1 / (1 - high**t), eps)
        mean, square = _moments(state, grads, low, high)

        def direction(g: Tensor, m: Tensor, v: Tensor) -> Tensor:
            of_gradient, of_mean, correction, plus = by.like(m)
            return (of_gradient * g + of_mean * m) / (core.root(v * correction) + plus)

        return tree.map(direction, grads, mean, square), NadamState(mean, square, product, step)

    return core.transform(init, update)


def scale_by_radam(b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Transform:
    """Adam's direction, rectified: m alone until the variance of v can be trusted, then by degrees Adam's.

    With rho = 2 / (1 - b2) - 1 and rho_t = rho - 2 * t * b2**t / (1 - b2**t), from rho_t > 5 on
    m' * r * sqrt(1 - b2**t) / (sqrt(v) + eps), m' = m / (1 - b1**t) before it, where
    r**2 = (rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t). As `torch.optim.RAdam`.

    Args:
        b1, b2: in [0, 1).
        eps: at least 0.

    Returns:
        A Transform with a RadamState.

    Raises:
        FuncregError: for a number out of range.

    >>> transform, params = scale_by_radam(), {"w": torch.zeros(1)}
    >>> updates, _ = transform.update({"w": torch.tensor([7.0])}, transform.init(params), params)
    >>> updates
    {'w': tensor([7.])}

    Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """
    b1, b2 = core.check_betas(b1, b2)
    eps = _checks.check_setting("eps", eps)
    low, high = core.exact(b1), core.exact(b2)

    def init(params: tree.Tree) -> RadamState:
        return RadamState(tree.zeros_like(params), tree.zeros_like(params), core.zero_step(params))

    def update(grads: tree.Tree, state: RadamState, params: tree.Tree) -> tuple[tree.Tree, RadamState]:
        core.check_state(state, RadamState, mean=grads, square=grads)
        step = state.step + 1
        t = step.to(torch.float64)
        first, second = 1 - low**t, 1 - high**t
        most = 2 / (1 - high) - 1 + 0 * t
        length = most - 2 * t * high**t / second
        tractable = ~(length <= 5)  # a b2 of NaN, too, is to be seen
        # What is not chosen must have a slope too.
        length, most = torch.where(tractable, length, 5.0), torch.where(tractable, most, 5.0)
        squared = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
        plain = 1 / first + 0 * core.exact(eps)  # an eps of NaN is to be seen from the first
        by = core.Scalars(plain, torch.sqrt(squared * second) / first, eps)
        mean, square = _moments(state, grads, low, high)

        def direction(g: Tensor, m: Tensor, v: Tensor) -> Tensor:
            plain, rectified, plus = by.like(m)
            return torch.where(tractable, rectified * m / (core.root(v) + plus), plain * m)

        return tree.map(direction, grads, mean, square), RadamState(mean, square, step)

    return core.transform(init, update)


def _moments(
    state: NadamState | RadamState, grads: tree.Tree, low: Number, high: Number
) -> tuple[tree.Tree, tree.Tree]:
    new_mean, new_square = core.Scalars(1 - low), core.Scalars(1 - high)
    mean = tree.map(lambda m, g: _moved(m, g, new_mean), state.mean, grads)
    return mean, tree.map(lambda v, g: _moved(v, g * g, new_square), state.square, grads)


def _moved(average: Tensor, new: Tensor, weight: core.Scalars) -> Tensor:
    return torch.lerp(average, new, weight.like(average)[0])

"""Optimizers as chains of transforms, and learning-rate schedules.

    optimizer = adamw(1e-3)
    opt_state = optimizer.init(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = apply_updates(params, updates)

Each step equals that of `torch.optim`'s optimizer of the same name. A schedule is a function of
the number of updates made, an integer tensor, and gives the rate of the next one.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks, transforms, tree
from .transforms import Number, Schedule, Transform


def apply_updates(params: tree.Tree, updates: tree.Tree) -> tree.Tree:
    """params + updates, each leaf in its parameter's dtype.

    Args:
        params: a tree of tensors.
        updates: a tree of the same structure.

    Returns:
        The new parameters.

    >>> apply_updates({"w": torch.ones(2)}, {"w": torch.tensor([0.5, -0.5])})
    {'w': tensor([1.5000, 0.5000])}
    """
    return tree.map(lambda w, u: (w + u).to(w.dtype), params, updates)


def sgd(
    lr: Number | Schedule,
    *,
    momentum: Number = 0.0,
    dampening: Number = 0.0,
    weight_decay: Number = 0.0,
    nesterov: bool = False,
    mask: tree.Mask | None = None,
) -> Transform:
    """Stochastic gradient descent: w - lr * b, b = momentum * b + (1 - dampening) * (g + weight_decay * w).

    As `torch.optim.SGD`.

    Args:
        lr: the learning rate, at least 0, or a schedule.
        momentum, dampening: in [0, 1]; b is the gradient itself at first, and where momentum is the number 0.
        weight_decay: at least 0; added to the gradient, so multiplied by lr: `penalties.l2(params, weight_decay / 2)`.
        nesterov: step along g + momentum * b.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range; nesterov without momentum or with dampening.

    >>> optimizer, params = sgd(0.1), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.ones(1)}, optimizer.init(params), params)
    >>> apply_updates(params, updates)
    {'w': tensor([0.9000])}
    """
    _checks.check_number("momentum", momentum, 0.0, 1.0)
    _checks.check_number("weight_decay", weight_decay, 0.0)
    if nesterov and not isinstance(momentum, Tensor) and momentum == 0:
        _checks.fail("momentum", momentum, "a number above 0 when nesterov=True")
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.momentum(momentum, dampening=dampening, nesterov=nesterov),
        transforms.scale_by_learning_rate(lr),
    )


def adam(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    mask: tree.Mask | None = None,
) -> Transform:
    """Adam, with L2 decay coupled into the gradient, as `torch.optim.Adam`.

    w - lr * m / (sqrt(v) + eps), m and v the bias-corrected averages of g' = g + weight_decay * w
    and its square. Kingma and Ba 2015 (arXiv:1412.6980).

    Args:
        lr: the learning rate, at least 0, or a schedule.
        b1, b2: in [0, 1).
        eps: at least 0.
        weight_decay: at least 0; the same as adding `penalties.l2(params, weight_decay / 2)` to the loss.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> optimizer, params = adam(0.1), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.1000])}
    """
    _checks.check_number("weight_decay", weight_decay, 0.0)
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_adam(b1, b2, eps),
        transforms.scale_by_learning_rate(lr),
    )


def adamw(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
    mask: tree.Mask | None = None,
) -> Transform:
    """Adam with decoupled decay, as `torch.optim.AdamW`: w - lr * (m / (sqrt(v) + eps) + weight_decay * w).

    Loshchilov and Hutter 2019 (arXiv:1711.05101).

    Args:
        lr: the learning rate, at least 0, or a schedule; it multiplies the decay.
        b1, b2: in [0, 1).
        eps: at least 0.
        weight_decay: at least 0.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> optimizer, params = adamw(0.1, weight_decay=0.5), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.1500])}
    """
    _checks.check_number("weight_decay", weight_decay, 0.0)
    return transforms.chain(
        transforms.scale_by_adam(b1, b2, eps),
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_learning_rate(lr),
    )


def constant(value: Number) -> Callable[[Tensor], Tensor]:
    """The same rate at every step.

    Args:
        value: at least 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    >>> constant(0.1)(torch.tensor(7))
    tensor(0.1000, dtype=torch.float64)
    """
    _checks.check_number("value", value, 0.0)
    return lambda step: value + 0.0 * _float(step)


def step(value: Number, *, every: Number, factor: Number = 0.1) -> Callable[[Tensor], Tensor]:
    """value * factor ** floor(step / every), as `torch.optim.lr_scheduler.StepLR`.

    Args:
        value: the first rate, at least 0.
        every: steps between two decreases, above 0.
        factor: of each decrease, at least 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    >>> step(1.0, every=10, factor=0.5)(torch.tensor(20))
    tensor(0.2500, dtype=torch.float64)
    """
    _checks.check_number("value", value, 0.0)
    _checks.check_number("every", every, 0.0, exclusive="low")
    _checks.check_number("factor", factor, 0.0)
    return lambda step: value * factor ** torch.floor(_float(step) / every)


def exponential(value: Number, *, factor: Number) -> Callable[[Tensor], Tensor]:
    """value * factor ** step, as `torch.optim.lr_scheduler.ExponentialLR`.

    Args:
        value: the first rate, at least 0.
        factor: of each step, at least 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    >>> exponential(1.0, factor=0.5)(torch.tensor(3))
    tensor(0.1250, dtype=torch.float64)
    """
    _checks.check_number("value", value, 0.0)
    _checks.check_number("factor", factor, 0.0)
    return lambda step: value * factor ** _float(step)


def cosine(value: Number, *, steps: Number, final: Number = 0.0) -> Callable[[Tensor], Tensor]:
    """final + (value - final) * (1 + cos(pi * step / steps)) / 2; final from then on.

    As `torch.optim.lr_scheduler.CosineAnnealingLR` up to T_max = steps. Loshchilov and Hutter 2017
    (arXiv:1608.03983).

    Args:
        value: the first rate, at least 0.
        steps: how many updates the way down takes, above 0.
        final: the last rate, at least 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    >>> cosine(1.0, steps=10)(torch.tensor(5))
    tensor(0.5000, dtype=torch.float64)
    """
    _checks.check_number("value", value, 0.0)
    _checks.check_number("steps", steps, 0.0, exclusive="low")
    _checks.check_number("final", final, 0.0)
    return lambda step: _cosine(value, final, _float(step) / steps)


def warmup_cosine(
    value: Number, *, warmup: Number, steps: Number, initial: Number = 0.0, final: Number = 0.0
) -> Callable[[Tensor], Tensor]:
    """A line from initial to value over the first `warmup` updates, then `cosine` over the rest.

    Goyal et al. 2017 (arXiv:1706.02677) for the warmup.

    Args:
        value: the highest rate, at least 0.
        warmup: updates on the way up, above 0; update 0 has the rate initial.
        steps: updates in all, more than warmup.
        initial, final: the first and the last rate, at least 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    Raises:
        FuncregError: when steps is not above warmup.

    >>> schedule = warmup_cosine(1.0, warmup=10, steps=110)
    >>> [round(float(schedule(torch.tensor(step))), 3) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    _checks.check_number("value", value, 0.0)
    _checks.check_number("warmup", warmup, 0.0, exclusive="low")
    _checks.check_number("steps", steps, 0.0, exclusive="low")
    _checks.check_number("initial", initial, 0.0)
    _checks.check_number("final", final, 0.0)
    if not isinstance(steps, Tensor) and not isinstance(warmup, Tensor) and steps <= warmup:
        _checks.fail("steps", steps, f"a number above warmup = {warmup}")

    def schedule(step: Tensor) -> Tensor:
        now = _float(step)
        up = initial + (value - initial) * (now / warmup)
        down = _cosine(value, final, ((now - warmup) / (steps - warmup)).clamp(min=0.0))
        return torch.where(now < warmup, up, down)

    return schedule


def _cosine(value: Number, final: Number, progress: Tensor) -> Tensor:
    return final + (value - final) * (1 + torch.cos(math.pi * progress.clamp(max=1.0))) / 2


def _float(step: Tensor) -> Tensor:
    """A step as float64, in which every rate is computed."""
    return torch.as_tensor(step).to(torch.float64)

"""Learning-rate schedules: functions of the number of updates made, an integer tensor."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _checks
from ..transforms import Number


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

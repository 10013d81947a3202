"""Learning-rate schedules: functions of the number of updates made, an integer tensor."""

import math
from collections.abc import Callable, Sequence
from typing import Any

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
    value = _checks.check_number("value", value, 0.0)
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
    value = _checks.check_number("value", value, 0.0)
    every = _checks.check_number("every", every, 0.0, exclusive="low")
    factor = _checks.check_number("factor", factor, 0.0)
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
    value = _checks.check_number("value", value, 0.0)
    factor = _checks.check_number("factor", factor, 0.0)
    return lambda step: value * factor ** _float(step)


def linear(value: Number, *, steps: Number, final: Number = 0.0) -> Callable[[Tensor], Tensor]:
    """A line from value to final over some steps; final from then on. As `torch.optim.lr_scheduler.LinearLR`.

    Args:
        value: the first rate, at least 0; less than final for a warmup.
        steps: how many updates the way takes, above 0.
        final: the last rate, at least 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    Raises:
        FuncregError: for a number out of range.

    >>> linear(1.0, steps=10)(torch.tensor(4))
    tensor(0.6000, dtype=torch.float64)
    """
    value = _checks.check_number("value", value, 0.0)
    steps = _checks.check_number("steps", steps, 0.0, exclusive="low")
    final = _checks.check_number("final", final, 0.0)
    return lambda step: _linear(value, final, _float(step) / steps)


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
    value = _checks.check_number("value", value, 0.0)
    steps = _checks.check_number("steps", steps, 0.0, exclusive="low")
    final = _checks.check_number("final", final, 0.0)
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
    value = _checks.check_number("value", value, 0.0)
    warmup = _checks.check_number("warmup", warmup, 0.0, exclusive="low")
    steps = _checks.check_number("steps", steps, 0.0, exclusive="low")
    initial = _checks.check_number("initial", initial, 0.0)
    final = _checks.check_number("final", final, 0.0)
    warmup = _checks.check_order("warmup", warmup, steps, "steps", strict=True)

    def schedule(step: Tensor) -> Tensor:
        now = _float(step)
        up = initial + (value - initial) * (now / warmup)
        down = _cosine(value, final, ((now - warmup) / (steps - warmup)).clamp(min=0.0))
        return _checks.spoilt(torch.where(now < warmup, up, down), initial, final)

    return schedule


def one_cycle(
    value: Number,
    *,
    steps: Number,
    pct_start: Number = 0.3,
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
    anneal: str = "cosine",
) -> Callable[[Tensor], Tensor]:
    """Up from value / div_factor to value, then down to value / div_factor / final_div_factor, and that from then on.

    As `torch.optim.lr_scheduler.OneCycleLR`, of two phases and without its cycle of momentum.

    Args:
        value: the highest rate, at least 0.
        steps: updates in all, above 1.
        pct_start: the share of them on the way up, in [0, 1]: update `pct_start * steps - 1` has the highest rate.
        div_factor, final_div_factor: above 0.
        anneal: "cosine" or "linear".

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    Raises:
        FuncregError: for an argument out of range.

    >>> schedule = one_cycle(1.0, steps=100)
    >>> [round(float(schedule(torch.tensor(step))), 4) for step in (0, 29, 64, 99)]
    [0.04, 1.0, 0.5, 0.0]

    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2019
    (arXiv:1708.07120).
    """
    value = _checks.check_number("value", value, 0.0)
    steps = _checks.check_number("steps", steps, 1.0, exclusive="low")
    pct_start = _checks.check_number("pct_start", pct_start, 0.0, 1.0)
    div_factor = _checks.check_number("div_factor", div_factor, 0.0, exclusive="low")
    final_div_factor = _checks.check_number("final_div_factor", final_div_factor, 0.0, exclusive="low")
    _checks.check_choice("anneal", anneal, ("cosine", "linear"))
    between = _cosine if anneal == "cosine" else _linear
    first = value / div_factor

    def schedule(step: Tensor) -> Tensor:
        now = _float(step)
        top = pct_start * steps - 1 + 0 * now
        up = between(first, value, now / _positive(top))
        down = between(value, first / final_div_factor, (now - top) / _positive(steps - 1 - top))
        return torch.where(now < top, up, down)

    return schedule


def join_schedules(
    schedules: Sequence[Callable[[Tensor], Any]], boundaries: Sequence[Number]
) -> Callable[[Tensor], Tensor]:
    """One schedule after the other, each counting from 0 where it begins.

    As `torch.optim.lr_scheduler.SequentialLR`, and optax's function of this name.

    Args:
        schedules: functions of the number of updates made, at least one.
        boundaries: the update at which each but the first begins, in ascending order, above 0.

    Returns:
        A schedule: (step, int64 of shape ()) -> float64 of shape ().

    Raises:
        FuncregError: for what cannot be called, another number of boundaries than of schedules less one, or an
            order that is not ascending.

    >>> schedule = join_schedules([linear(0.0, steps=10, final=1.0), step(1.0, every=20)], [10])
    >>> [round(float(schedule(torch.tensor(step))), 3) for step in (0, 5, 10, 29, 30)]
    [0.0, 0.5, 1.0, 1.0, 0.1]
    """
    schedules = _checks.check_several("schedules", schedules, "schedules")
    boundaries = _checks.check_several("boundaries", boundaries, "numbers")
    if not schedules:
        _checks.fail("schedules", "none", "at least one")
    for index, each in enumerate(schedules):
        _checks.check_callable(f"schedules[{index}]", each, "a function of the number of updates made")
    if len(boundaries) != len(schedules) - 1:
        _checks.fail("boundaries", f"{len(boundaries)} of them", f"{len(schedules) - 1}, one between two schedules")
    names = [f"boundaries[{index}]" for index in range(len(boundaries))]
    begins = [
        _checks.check_number(name, each, 0.0, exclusive="low") for name, each in zip(names, boundaries, strict=True)
    ]
    for index in range(len(begins) - 1):
        own, after = begins[index : index + 2]
        begins[index] = _checks.check_order(names[index], own, after, names[index + 1], strict=True)

    def schedule(step: Tensor) -> Tensor:
        step = torch.as_tensor(_checks.check_number("step", step))
        # Each is asked only about its own steps: what it gives elsewhere need not be finite.
        rate = _exact(schedules[0](step.clamp(max=begins[0]) if begins else step))
        for index, (each, begin) in enumerate(zip(schedules[1:], begins, strict=True), start=1):
            end = step if index == len(begins) else step.clamp(max=begins[index])
            rate = torch.where(step < begin, rate, _exact(each((end - begin).clamp(min=0))))
        return _checks.spoilt(rate, *begins)

    return schedule


def _linear(value: Number, final: Number, progress: Tensor) -> Tensor:
    return value + (final - value) * progress.clamp(max=1.0)


def _cosine(value: Number, final: Number, progress: Tensor) -> Tensor:
    return final + (value - final) * (1 + torch.cos(math.pi * progress.clamp(max=1.0))) / 2


def _positive(length: Tensor) -> Tensor:
    """A length to divide by, also where what it is divided into is not used."""
    return length.clamp(min=1e-9)


def _float(step: Tensor) -> Tensor:
    """A step as float64, in which every rate is computed."""
    return _exact(_checks.check_number("step", step, 0.0))


def _exact(rate: Any) -> Tensor:
    return torch.as_tensor(rate).to(torch.float64)

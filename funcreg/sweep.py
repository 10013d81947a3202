"""Hyperparameter sweeps: settings -> hparams whose every leaf has a leading axis of K members."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from . import _checks


def grid(**axes: Iterable[float] | Tensor) -> dict[str, Tensor]:
    """Every combination of the values of each axis; the last axis varies fastest.

    Args:
        axes: name = values: Python numbers, or a 1-d tensor, which keeps its dtype. At least one value each.

    Returns:
        dict name -> tensor (K,), K the product of the lengths: `hparams` of `train.fit(members=K)`.
        Floats become float64, integers int64.

    Raises:
        FuncregError: without axes, or for an axis that is empty, or not of numbers.

    >>> grid(rate=[0.0, 0.5], lr=[0.1, 0.2, 0.3])
    {'rate': tensor([0.0000, 0.0000, 0.0000, 0.5000, 0.5000, 0.5000], dtype=torch.float64),
     'lr': tensor([0.1000, 0.2000, 0.3000, 0.1000, 0.2000, 0.3000], dtype=torch.float64)}
    """
    if not axes:
        _checks.fail("axes", "none", "at least one, such as grid(rate=[0.0, 0.5])")
    values = {name: _axis(name, axis) for name, axis in axes.items()}
    combinations = list(itertools.product(*(range(len(axis)) for axis in values.values())))
    indices = torch.tensor(combinations).unbind(1)
    return {name: axis[index.to(axis.device)] for (name, axis), index in zip(values.items(), indices, strict=True)}


def _axis(name: str, axis: Iterable[float] | Tensor) -> Tensor:
    """The values of one axis as a tensor (length,)."""
    allowed = "a list of numbers, or a tensor of shape (n,)"
    if isinstance(axis, Tensor):
        if axis.ndim != 1 or not len(axis):
            _checks.fail(name, _checks.describe(axis), allowed)
        return axis
    if isinstance(axis, str) or not isinstance(axis, Iterable):
        remedy = f"Put it in a list: {name}=[{axis!r}]." if isinstance(axis, int | float) else ""
        _checks.fail(name, _checks.describe(axis), allowed, remedy)
    numbers = list(axis)
    if not numbers:
        _checks.fail(name, "no values", allowed)
    for number in numbers:
        _checks.check_number(name, number)
    integers = all(isinstance(number, int) for number in numbers)
    return torch.tensor(numbers, dtype=torch.int64 if integers else torch.float64)

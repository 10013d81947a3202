"""What `random_search` draws from. A range is a function (key, n) -> tensor (n,); yours will do as well."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit, random

Range = Callable[[Tensor, int], Tensor]


def uniform(low: float | Tensor, high: float | Tensor) -> Range:
    """Numbers in [low, high), all alike.

    Args:
        low, high: numbers or tensors of shape ().

    Returns:
        A range: (key, n) -> float64 (n,).

    Raises:
        FuncregError: when low is not below high.

    >>> uniform(0.0, 0.5)(random.key(0), 3)
    tensor([0.0779, 0.2066, 0.1712], dtype=torch.float64)
    """
    low, high = _interval(low, high, -math.inf)

    def draw(key: Tensor, n: int) -> Tensor:
        _checks.check_count("n", n)
        return random.uniform(key, n, low=low, high=high, dtype=torch.float64)

    return draw


def log_uniform(low: float | Tensor, high: float | Tensor) -> Range:
    """Numbers in [low, high) whose logarithms are all alike: `low * (high / low)**u`, u uniform in [0, 1).

    For what matters by its order of magnitude: a learning rate, a decay.

    Args:
        low, high: above 0; numbers or tensors of shape ().

    Returns:
        A range: (key, n) -> float64 (n,).

    Raises:
        FuncregError: when low is not above 0 and below high.

    >>> log_uniform(1e-4, 1.0)(random.key(0), 3)
    tensor([0.0004, 0.0045, 0.0023], dtype=torch.float64)

    Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 2012.
    """
    low, high = _interval(low, high, 0.0)

    def draw(key: Tensor, n: int) -> Tensor:
        _checks.check_key(key)
        _checks.check_count("n", n)
        first, last = (torch.as_tensor(end, dtype=torch.float64, device=key.device) for end in (low, high))
        draws = random.uniform(key, n, low=first.log(), high=last.log(), dtype=torch.float64).exp()
        return draws.clamp(first, last)  # exp(log(low)) may round to below low

    return draw


def integers(low: int, high: int) -> Range:
    """Integers in [low, high), all alike.

    Args:
        low, high: at most 2**31 apart.

    Returns:
        A range: (key, n) -> int64 (n,).

    Raises:
        FuncregError: when low is not an integer below high.

    >>> integers(1, 7)(random.key(0), 5)
    tensor([6, 4, 3, 1, 2])
    """
    _checks.check_count("low", low, low=-(2**62))
    _checks.check_count("high", high, low=low + 1, high=low + 2**31)

    def draw(key: Tensor, n: int) -> Tensor:
        _checks.check_count("n", n)
        return random.randint(key, n, low, high)

    return draw


def choice(values: Iterable[float] | Tensor) -> Range:
    """One of some values, all alike.

    Args:
        values: Python numbers, or a tensor (m,), which keeps its dtype. At least one.

    Returns:
        A range: (key, n) -> tensor (n,). Floats become float64, integers int64.

    Raises:
        FuncregError: for values that are none, or not numbers.

    >>> choice([16, 32, 64])(random.key(0), 5)
    tensor([64, 32, 32, 16, 16])
    """
    column = as_column("values", values)

    def draw(key: Tensor, n: int) -> Tensor:
        _checks.check_key(key)
        _checks.check_count("n", n)
        return column.to(key.device)[random.randint(key, n, 0, len(column))]

    return draw


def as_column(name: str, values: Iterable[float] | Tensor) -> Tensor:
    """Some numbers as a tensor (length,)."""
    allowed = "a list of numbers, or a tensor of shape (n,)"
    if isinstance(values, Tensor):
        if values.ndim != 1 or not len(values):
            _checks.fail(name, _checks.describe(values), allowed)
        finite = _jit.known(values.isfinite())
        if finite is not None and not bool(finite.all()):
            _checks.fail(name, f"{int((~finite).sum())} of {len(values)} that are not finite", "finite numbers")
        return values if values.dtype == torch.bool else _checks.check_number(name, values).to(values.dtype)
    if isinstance(values, str) or not isinstance(values, Iterable):
        remedy = f"Put it in a list: {name}=[{values!r}]." if isinstance(values, int | float) else ""
        _checks.fail(name, _checks.describe(values), allowed, remedy)
    numbers = list(values)
    if not numbers:
        _checks.fail(name, "no values", allowed)
    for number in numbers:
        if not isinstance(number, int | float) or isinstance(number, bool):
            remedy = f"What is not a number is a program of its own: fr.sweep.each(run, {name}=[...])."
            _checks.fail(name, _checks.describe(number), "numbers", remedy)
        _checks.check_number(name, number)
    integral = all(isinstance(number, int) and abs(number) < 2**63 for number in numbers)
    return torch.tensor(numbers, dtype=torch.int64 if integral else torch.float64)


def _interval(low: float | Tensor, high: float | Tensor, above: float) -> tuple[Any, Any]:
    low = _checks.check_setting("low", low, above, exclusive="low")
    high = _checks.check_setting("high", high, above, exclusive="low")
    return _checks.check_order("low", low, high, "high", strict=True), high

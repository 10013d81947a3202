"""What draws are asked for: shapes, parameters that broadcast to them, dtypes."""

import math
from typing import Any

import torch
from torch import Tensor

from .. import _checks

Shape = int | tuple[int, ...]


def as_shape(shape: Shape) -> tuple[int, ...]:
    """A shape as a tuple of lengths, checked.

    >>> as_shape(3), as_shape((2, 3))
    ((3,), (2, 3))
    """
    if isinstance(shape, int | torch.SymInt) and not isinstance(shape, bool):
        shape = (shape,)
    elif not isinstance(shape, tuple | list):
        _checks.fail("shape", _checks.describe(shape), "an integer or a tuple of integers")
    for length in shape:
        _checks.check_count("shape", length, low=0)
    return tuple(shape)


def check_parameter(
    argument: str,
    value: float | Tensor,
    shape: tuple[int, ...],
    low: float = -math.inf,
    high: float = math.inf,
    *,
    exclusive: str = "",
) -> Any:
    """As `_checks.check_number`; refuse a tensor that does not broadcast to the shape that is drawn.

    >>> check_parameter("std", torch.ones(3), (2, 3), 0.0)
    tensor([1., 1., 1.])
    """
    if isinstance(value, Tensor) and value.ndim:
        pairs = zip(value.shape[::-1], shape[::-1], strict=False)
        if value.ndim > len(shape) or any(own not in (1, length) for own, length in pairs):
            allowed = f"a number, or a tensor that broadcasts to the shape drawn, {shape}"
            _checks.fail(argument, _checks.describe(value), allowed)
    return _checks.check_number(argument, value, low, high, exclusive=exclusive)


def check_dtype(dtype: torch.dtype) -> None:
    """Refuse what is no floating-point dtype that torch computes with."""
    if not isinstance(dtype, torch.dtype) or dtype not in _checks.FLOATING:
        _checks.fail("dtype", _checks.describe(dtype), "a floating-point dtype such as torch.float32")

"""What the noise functions share: their checks, and a mask that keeps the mean."""

from typing import Any

import torch
from torch import Tensor

from .. import _checks

SELU_FLOOR = -1.7580993408473766  # -scale * alpha of SELU: what a unit falls to when it is off


def drop(x: Tensor, rate: float | Tensor, kept: Tensor) -> Tensor:
    """x where kept, scaled to keep its mean. The mask takes the scale, which is cheaper than x doing it."""
    return (x * (kept * _inverse(rate, x))).to(x.dtype)


def drop_to_floor(x: Tensor, rate: float | Tensor, kept: Tensor) -> Tensor:
    """x where kept and SELU's floor where not, scaled and shifted to keep a mean of 0 and a variance of 1."""
    p = as_number(rate, x)
    denominator = (1 - p) * (1 + p * SELU_FLOOR**2)
    none_left = denominator == 0
    a = torch.where(none_left, 0.0, torch.rsqrt(torch.where(none_left, 1.0, denominator)))
    # One product and one sum per element: a * x + b where kept, a * floor + b where not.
    shift = a * SELU_FLOOR * (1 - p) - kept * (a * SELU_FLOOR)
    return (x * (kept * a) + shift).to(x.dtype)


def _inverse(rate: float | Tensor, x: Tensor) -> Tensor:
    """1 / (1 - rate); 1 where the rate is 1, so that nothing is divided by zero."""
    if not isinstance(rate, Tensor):
        return as_number(1.0 if rate == 1 else 1 / (1 - rate), x)
    keep = 1 - as_number(rate, x)
    return 1 / torch.where(keep == 0, 1.0, keep)


def as_number(value: float | Tensor, x: Tensor) -> Tensor:
    """A 0-d tensor in float64 when x is, else in float32: a scale rounded to 16 bits would be biased by 0.2%."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if isinstance(value, Tensor):
        return value.to(dtype)
    return torch.full((), value, dtype=torch.float64, device=x.device).to(dtype)  # infinite, if it is too large for it


def expand(mask: Tensor, x: Tensor) -> Tensor:
    """A mask over the leading axes of x, with a 1 for each of the others."""
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def check(
    x: Tensor, value: float | Tensor, *, key: Tensor, name: str = "rate", low: float = 0.0, high: float = 1.0
) -> Any:
    """The setting, checked; refuse an x that is not floating-point, and what is not a key beside x."""
    _checks.check_floating("x", x)
    value = _checks.check_setting(name, value, low, high)
    _checks.check_key(key, x)
    return value


def check_spatial(x: Tensor, at_most: int | None = None) -> None:
    """Refuse an x without spatial axes, or with more than at_most of them."""
    if x.ndim < 3 or (at_most is not None and x.ndim > at_most + 2):
        limit = f" with one to {at_most} spatial axes" if at_most else " with at least one spatial axis"
        _checks.fail("x", _checks.describe(x), f"a tensor (N, C, *spatial){limit}")

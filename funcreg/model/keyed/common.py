"""What the keyed forms of torch's random functions share: generators, shapes, finishing touches."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import random
from ...random.draws import open_unit
from .mode import Keyed, LayerGenerator


def name_of(function: Any) -> str:
    """What messages call a function."""
    return getattr(function, "__name__", str(function))


def with_generator(keyed: Keyed, function: Any, generator: Any) -> bool:
    """Whether a draw brings a generator that the forward made, which it is left to; one of a layer's is not."""
    if generator is None or isinstance(generator, LayerGenerator):
        return False
    keyed.saw(name_of(function), "formula", True)
    keyed.uses(generator)
    return True


def shape_of(size: tuple[Any, ...], given: Any) -> tuple[int, ...]:
    """A shape given as integers, as one tuple, or by name."""
    if given is not None:
        size = tuple(given) if isinstance(given, tuple | list) else (given,)
    elif len(size) == 1 and isinstance(size[0], tuple | list):
        size = tuple(size[0])
    return tuple(size)


def finished(keyed: Keyed, drawn: Tensor, out: Tensor | None, device: Any, requires_grad: bool) -> Tensor:
    """What was drawn where and as it was asked for."""
    if device is not None:
        drawn = drawn.to(device)
    if out is not None:
        return keyed.into(out, drawn)
    return drawn.requires_grad_() if requires_grad else drawn


def numbers(draw: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype | None, *, key: Tensor) -> Tensor:
    """Floating-point numbers by a draw (key, shape, dtype); complex ones are two of them."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_complex:
        return draw(key, shape, dtype=dtype)
    parts = draw(key, (*shape, 2), dtype=torch.float64 if dtype == torch.complex128 else torch.float32)
    # torch's complex normal numbers have a variance of 1, its uniform ones two uniform parts.
    scale = math.sqrt(0.5) if draw is random.normal else 1.0
    return torch.view_as_complex((parts * scale).contiguous()).to(dtype)


def flips(p: Any, shape: tuple[int, ...], *, key: Tensor) -> Tensor:
    """True with probability p."""
    return random.uniform(key, shape) < p


def unit(shape: tuple[int, ...], *, key: Tensor) -> Tensor:
    """float64 numbers inside (0, 1)."""
    return open_unit(random.bits(key, shape), torch.float64)


def gumbel(shape: tuple[int, ...], *, key: Tensor) -> Tensor:
    """Gumbel(0, 1) numbers in float64."""
    return -torch.log(-torch.log(unit(shape, key=key)))


def integers(keyed: Keyed, function: Any, shape: tuple[int, ...], low: int, high: int) -> Tensor:
    """Integers over [low, high)."""
    if not low < high <= low + 2**31:
        keyed.cannot(name_of(function), f"over the range [{low}, {high})")
    return random.randint(keyed.next_key(name_of(function)), shape, int(low), int(high))

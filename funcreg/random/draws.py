"""Draws from a key: `(key, shape, ...) -> tensor`, each distribution one Philox call.

Every draw takes one key. A batch of keys is `torch.func.vmap(draw)(keys)`, and gives each
member exactly what it would have drawn alone.
"""

import math

import torch
from torch import Tensor

from .. import _checks, _jit
from . import execution
from .arguments import Shape, as_shape, check_dtype, check_parameter

_FURTHEST = 37.0  # standard deviations: what is left of a tail beyond is no float64


def bits(key: Tensor, shape: Shape) -> Tensor:
    """Random 32-bit words.

    Args:
        key: int64 (2,).
        shape: of the result, an integer or a tuple.

    Returns:
        int64 of the given shape, uniform over [0, 2**32): the words of Philox4x32-10 in order.

    >>> from funcreg import random
    >>> [hex(word) for word in bits(random.key(0), 2).tolist()]  # Random123's vector for zeros
    ['0x6627e8d5', '0xe169c58d']
    """
    return execution.words(key, as_shape(shape))


def uniform(
    key: Tensor,
    shape: Shape = (),
    *,
    low: float | Tensor = 0.0,
    high: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform numbers in [low, high).

    Drawn as multiples of 2**-24 in float32, `torch.func._random.uniform`'s bits, then cast: so
    a mask does not depend on dtype. What scaling or the cast rounds up to high is the number below it.

    Args:
        key: int64 (2,).
        shape: of the result.
        low, high: the interval; numbers, or tensors that broadcast with shape.
        dtype: floating-point.

    Returns:
        `dtype` of the given shape.

    Raises:
        FuncregError: when low or high does not fit shape or dtype, or low is above high.

    >>> from funcreg import random
    >>> uniform(random.key(0), 3)
    tensor([0.1559, 0.4132, 0.3425])
    """
    check_dtype(dtype)
    shape = as_shape(shape)
    most = torch.finfo(dtype).max
    low, high = check_parameter("low", low, shape, -most, most), check_parameter("high", high, shape, -most, most)
    low = _checks.check_order("low", low, high, "high")
    unit = execution.uniform(key, shape).to(torch.float64 if dtype == torch.float64 else torch.float32)
    numbers = not isinstance(low, Tensor) and not isinstance(high, Tensor)
    if numbers and (low, high) == (0.0, 1.0) and dtype.itemsize > 2:
        return unit
    drawn = (2 * (low / 2 + (high / 2 - low / 2) * unit)).to(dtype)  # by halves: the width may overflow
    first, end = (torch.as_tensor(bound, device=key.device).to(dtype) for bound in (low, high))
    return torch.maximum(torch.minimum(drawn, _below(end)), first)


def normal(
    key: Tensor,
    shape: Shape = (),
    *,
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Gaussian numbers, by Box and Muller's transform of pairs of words.

    Args:
        key: int64 (2,).
        shape: of the result.
        mean, std: numbers (std at least 0), or tensors that broadcast with shape.
        dtype: floating-point; drawn in float64 when it is, in float32 otherwise.

    Returns:
        `dtype` of the given shape: `torch.func._random.normal`'s numbers, to rounding.

    Raises:
        FuncregError: when std is negative, or mean or std does not fit shape.

    >>> from funcreg import random
    >>> normal(random.key(0), (100_000,)).std()
    tensor(0.999...)
    """
    check_dtype(dtype)
    shape = as_shape(shape)
    mean, std = check_parameter("mean", mean, shape), check_parameter("std", std, shape, low=0.0)
    size = math.prod(shape)
    working = torch.float64 if dtype == torch.float64 else torch.float32
    pairs = open_unit(execution.words(key, (-(-size // 2), 2)), working)
    standard = torch.stack(box_muller(pairs[:, 0], pairs[:, 1]), dim=-1).reshape(-1)[:size].reshape(shape)
    return (mean + std * standard).to(dtype)


def truncated_normal(
    key: Tensor,
    shape: Shape = (),
    *,
    low: float | Tensor = -2.0,
    high: float | Tensor = 2.0,
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Gaussian numbers conditioned on [low, high] standard deviations, by the inverse of the CDF.

    Args:
        key: int64 (2,).
        shape: of the result.
        low, high: the bounds, in standard deviations from the mean; low at most 37, high at least -37.
        mean, std: of the Gaussian before it is cut; numbers (std at least 0) or tensors.
        dtype: floating-point.

    Returns:
        `dtype` of the given shape, within [mean + low * std, mean + high * std].

    Raises:
        FuncregError: when low is not below high, or above 37, or high below -37.

    >>> from funcreg import random
    >>> bool((truncated_normal(random.key(0), 1000).abs() <= 2).all())
    True
    """
    check_dtype(dtype)
    shape = as_shape(shape)
    mean, std = check_parameter("mean", mean, shape), check_parameter("std", std, shape, low=0.0)
    low = check_parameter("low", low, shape, high=_FURTHEST)
    high = check_parameter("high", high, shape, low=-_FURTHEST)
    low = _checks.check_order("low", low, high, "high", strict=True)
    words = execution.words(key, shape)
    low64 = torch.as_tensor(low, dtype=torch.float64, device=words.device)
    high64 = torch.as_tensor(high, dtype=torch.float64, device=words.device)
    # Next to 1 a CDF has no digits left, nor has torch's ndtr next to 0: erfc, and an upper tail by its mirror image.
    side = torch.where(low64 > 0, 1.0, -1.0)
    below, above = (torch.special.erfc(side * bound * math.sqrt(0.5)) / 2 for bound in (low64, high64))
    standard = -side * torch.special.ndtri(below + (above - below) * open_unit(words, torch.float64))
    return (mean + std * standard.clamp(low64, high64)).to(dtype)


def bernoulli(key: Tensor, p: float | Tensor, shape: Shape | None = None) -> Tensor:
    """Coin flips: `uniform < p`.

    Args:
        key: int64 (2,).
        p: the probability of True, in [0, 1]; a number, or a tensor that broadcasts with shape.
        shape: of the result. Default: p's.

    Returns:
        bool of the given shape. p = 0 is never True, p = 1 always.

    Raises:
        FuncregError: when p is not in [0, 1], or does not fit shape. In a compiled program, and on a GPU, what is
            no probability is never True.

    >>> from funcreg import random
    >>> bernoulli(random.key(0), 0.5, (4,))
    tensor([True, True, True, True])
    """
    if shape is None:
        shape = tuple(p.shape) if isinstance(p, Tensor) else ()
    shape = as_shape(shape)
    p = check_parameter("p", p, shape, 0.0, 1.0)
    none = _jit.known(p.isnan()) if isinstance(p, Tensor) else None
    if none is not None and bool(none.any()):
        _checks.fail("p", f"{int(none.sum())} of {none.numel()} that are no probability", "numbers in [0, 1]")
    return execution.uniform(key, shape) < p


def randint(key: Tensor, shape: Shape, low: int, high: int) -> Tensor:
    """Integers uniform over [low, high).

    From 64 random bits each, so that the bias, (high - low) / 2**64, is below 1 in 8 billion.

    Args:
        key: int64 (2,).
        shape: of the result.
        low, high: integers, at most 2**31 apart.

    Returns:
        int64 of the given shape.

    Raises:
        FuncregError: when the range is empty or too wide.

    >>> from funcreg import random
    >>> randint(random.key(0), (5,), 0, 10)
    tensor([8, 6, 3, 0, 3])
    """
    _checks.check_count("low", low, low=-(2**62))
    _checks.check_count("high", high, low=low + 1, high=low + 2**31)
    shape = as_shape(shape)
    words = execution.words(key, (*shape, 2))
    # floor(word64 * range / 2**64) in two steps of 32 bits, none of which overflows.
    carry = (words[..., 0] * (high - low)) >> 32
    return low + ((words[..., 1] * (high - low) + carry) >> 32)


def permutation(key: Tensor, n: int) -> Tensor:
    """A random order of 0, ..., n - 1.

    Args:
        key: int64 (2,).
        n: at least 1.

    Returns:
        int64 (n,), by sorting 64-bit words (24-bit uniforms would collide, and favour some orders).

    >>> from funcreg import random
    >>> sorted(permutation(random.key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    _checks.check_count("n", n)
    words = execution.words(key, (n, 2))
    return torch.argsort(words[:, 0] | (words[:, 1] << 32), stable=True)


def categorical(key: Tensor, logits: Tensor) -> Tensor:
    """Class indices with probabilities softmax(logits), by the Gumbel-max trick.

    Args:
        key: int64 (2,).
        logits: (..., classes), unnormalised log-probabilities; -inf excludes a class, which is never drawn.

    Returns:
        int64 (...): one index for each row of logits.

    Raises:
        FuncregError: when logits are not floating-point or have no classes, or a row excludes all, or has NaN or
            inf. In a compiled program, and on a GPU, such a row gives -1 instead.

    >>> from funcreg import random
    >>> categorical(random.key(0), torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]))
    tensor([0, 1])
    """
    _checks.check_floating("logits", logits)
    _checks.check_key(key, logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., classes) of at least one class")
    units = open_unit(execution.words(key, tuple(logits.shape)), torch.float32)
    # The last words round up to 1, whose Gumbel number is infinite: it would beat, or be NaN with, -inf.
    gumbel = -torch.log(-torch.log(units.clamp(max=1 - 2.0**-24)))
    largest = logits.amax(dim=-1, keepdim=True)
    drawn = torch.argmax((logits - largest) + gumbel, dim=-1)  # of large logits a sum would round the noise off
    possible = largest.squeeze(-1).abs() < torch.inf  # no NaN is
    values = _jit.known(possible)
    if values is None:
        return torch.where(possible, drawn, -1)
    if not bool(values.all()):
        got = f"{int((~values).sum())} of {values.numel()} rows without a class, or with NaN or inf"
        _checks.fail("logits", got, "at least one class above -inf in each row, and neither NaN nor inf")
    return drawn


def _below(number: Tensor) -> Tensor:
    """The largest number below, of the same dtype; torch's nextafter is not compiled for 16 bits."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[number.dtype.itemsize]
    bits = number.view(whole)
    smallest = torch.full_like(number, -0.0).view(whole) + 1
    return torch.where(number == 0, smallest, torch.where(number > 0, bits - 1, bits + 1)).view(number.dtype)


def box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normals from two uniforms in (0, 1]."""
    radius, angle = torch.sqrt(-2 * torch.log(first)), 2 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)


def open_unit(words: Tensor, dtype: torch.dtype) -> Tensor:
    """32-bit words as numbers at the middle of their cells, never 0: (w + 1/2) / 2**32."""
    return words.to(dtype) * 2.0**-32 + 2.0**-33

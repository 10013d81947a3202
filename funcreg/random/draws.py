"""Draws from a key: `(key, shape, ...) -> tensor`, each distribution one Philox call.

Every draw takes one key. A batch of keys is `torch.func.vmap(draw)(keys)`, and gives each
member exactly what it would have drawn alone.
"""

import math

import torch
from torch import Tensor

from .. import _checks
from . import execution

Shape = int | tuple[int, ...]

_REJECTION_ROUNDS = 6  # of Marsaglia-Tsang, each accepting over 95%: 1e-8 are left, at the mode


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
    return execution.words(_key(key), _shape(shape))


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
    a mask does not depend on dtype. Scaling, or a cast to 16 bits, may round up to high.

    Args:
        key: int64 (2,).
        shape: of the result.
        low, high: the interval; numbers, or tensors that broadcast with shape.
        dtype: floating-point.

    Returns:
        `dtype` of the given shape.

    >>> from funcreg import random
    >>> uniform(random.key(0), 3)
    tensor([0.1559, 0.4132, 0.3425])
    """
    _check_dtype(dtype)
    _checks.check_number("low", low)
    _checks.check_number("high", high)
    unit = execution.uniform(_key(key), _shape(shape)).to(dtype)
    if isinstance(low, Tensor) or isinstance(high, Tensor) or (low, high) != (0.0, 1.0):
        return (low + (high - low) * unit).to(dtype)
    return unit


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

    >>> from funcreg import random
    >>> normal(random.key(0), (100_000,)).std()
    tensor(1.0...)
    """
    _check_dtype(dtype)
    _checks.check_number("mean", mean)
    _checks.check_number("std", std, low=0.0)
    shape = _shape(shape)
    size = math.prod(shape)
    working = torch.float64 if dtype == torch.float64 else torch.float32
    pairs = _open_unit(execution.words(_key(key), (-(-size // 2), 2)), working)
    standard = torch.stack(_box_muller(pairs[:, 0], pairs[:, 1]), dim=-1).reshape(-1)[:size].reshape(shape)
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
        low, high: the bounds, in standard deviations from the mean.
        mean, std: of the Gaussian before it is cut; numbers (std at least 0) or tensors.
        dtype: floating-point.

    Returns:
        `dtype` of the given shape, within [mean + low * std, mean + high * std].

    Raises:
        FuncregError: when low is not below high.

    >>> from funcreg import random
    >>> bool((truncated_normal(random.key(0), 1000).abs() <= 2).all())
    True
    """
    _check_dtype(dtype)
    for name, value in (("low", low), ("high", high), ("mean", mean)):
        _checks.check_number(name, value)
    _checks.check_number("std", std, low=0.0)
    if not isinstance(low, Tensor) and not isinstance(high, Tensor) and low >= high:
        _checks.fail("low", low, f"a number below high = {high}")
    words = execution.words(_key(key), _shape(shape))
    low64 = torch.as_tensor(low, dtype=torch.float64, device=words.device)
    high64 = torch.as_tensor(high, dtype=torch.float64, device=words.device)
    # In float64, since in float32 the CDF has no resolution beyond five deviations.
    below, above = torch.special.ndtr(low64), torch.special.ndtr(high64)
    standard = torch.special.ndtri(below + (above - below) * _open_unit(words, torch.float64))
    return (mean + std * standard.clamp(low64, high64)).to(dtype)


def bernoulli(key: Tensor, p: float | Tensor, shape: Shape | None = None) -> Tensor:
    """Coin flips: `uniform < p`.

    Args:
        key: int64 (2,).
        p: the probability of True, in [0, 1]; a number, or a tensor that broadcasts with shape.
        shape: of the result. Default: p's.

    Returns:
        bool of the given shape. p = 0 is never True, p = 1 always.

    >>> from funcreg import random
    >>> bernoulli(random.key(0), 0.5, (4,))
    tensor([ True,  True,  True, False])
    """
    _checks.check_number("p", p, 0.0, 1.0)
    if shape is None:
        shape = tuple(p.shape) if isinstance(p, Tensor) else ()
    return execution.uniform(_key(key), _shape(shape)) < p


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
    shape = _shape(shape)
    words = execution.words(_key(key), (*shape, 2))
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
    words = execution.words(_key(key), (n, 2))
    return torch.argsort(words[:, 0] | (words[:, 1] << 32), stable=True)


def categorical(key: Tensor, logits: Tensor) -> Tensor:
    """Class indices with probabilities softmax(logits), by the Gumbel-max trick.

    Args:
        key: int64 (2,).
        logits: (..., classes), unnormalised log-probabilities; -inf excludes a class.

    Returns:
        int64 (...): one index for each row of logits.

    >>> from funcreg import random
    >>> categorical(random.key(0), torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]))
    tensor([0, 1])
    """
    _checks.check_floating("logits", logits)
    if logits.ndim == 0:
        _checks.fail("logits", _checks.describe(logits), "a tensor (..., classes)")
    exponential = -torch.log(_open_unit(execution.words(_key(key), tuple(logits.shape)), torch.float32))
    return torch.argmax(logits - torch.log(exponential), dim=-1)


def gamma(key: Tensor, alpha: float | Tensor, shape: Shape | None = None) -> Tensor:
    """Gamma(alpha, 1) numbers: density x**(alpha - 1) exp(-x) / Gamma(alpha).

    A fixed number of rounds of Marsaglia and Tsang's rejection (ACM TOMS 26, 2000), so that the
    program does not depend on the numbers; below alpha = 1 their boost by u**(1/alpha).
    No gradient flows to alpha.

    Args:
        key: int64 (2,).
        alpha: the shape parameter, above 0; a number, or a tensor that broadcasts with shape.
            Good from 0.05; far below, results underflow to 0.
        shape: of the result. Default: alpha's.

    Returns:
        float32, or alpha's dtype, of the given shape.

    >>> from funcreg import random
    >>> gamma(random.key(0), 3.0, (100_000,)).mean()
    tensor(3.0...)
    """
    alpha, shape = _concentration("alpha", alpha, shape)
    words = execution.words(_key(key), (*shape, 16))
    return torch.exp(_log_gamma(words, alpha)).to(alpha.dtype)


def beta(key: Tensor, a: float | Tensor, b: float | Tensor, shape: Shape | None = None) -> Tensor:
    """Beta(a, b) numbers, as sigmoid(log gamma_a - log gamma_b), which never is 0/0.

    No gradient flows to a or b.

    Args:
        key: int64 (2,).
        a, b: above 0; numbers, or tensors that broadcast with shape. Good from 0.05.
        shape: of the result. Default: a's and b's, broadcast.

    Returns:
        float32, or the dtype of a and b, of the given shape, in [0, 1].

    >>> from funcreg import random
    >>> beta(random.key(0), 2.0, 6.0, (100_000,)).mean()
    tensor(0.25...)
    """
    if shape is None:
        shapes = [tuple(value.shape) if isinstance(value, Tensor) else () for value in (a, b)]
        shape = tuple(torch.broadcast_shapes(*shapes))
    a, shape = _concentration("a", a, shape)
    b, shape = _concentration("b", b, shape)
    words = execution.words(_key(key), (*shape, 32))
    log_ratio = _log_gamma(words[..., :16], a) - _log_gamma(words[..., 16:], b)
    return torch.sigmoid(log_ratio).to(torch.promote_types(a.dtype, b.dtype))


def _log_gamma(words: Tensor, alpha: Tensor) -> Tensor:
    """The logarithm of a Gamma(alpha, 1) number, from 16 words in the last axis."""
    working = torch.float64 if alpha.dtype == torch.float64 else torch.float32
    units = _open_unit(words, working)
    alpha = alpha.detach().to(working)
    boosted = torch.where(alpha < 1, alpha + 1, alpha)
    d = boosted - 1 / 3
    c = 1 / torch.sqrt(9 * d)
    rounds = _REJECTION_ROUNDS
    x = torch.cat(_box_muller(units[..., : rounds // 2], units[..., rounds // 2 : rounds]), dim=-1)
    v = (1 + c.unsqueeze(-1) * x) ** 3
    log_v = torch.log(torch.where(v > 0, v, 1.0))
    bound = 0.5 * x**2 + d.unsqueeze(-1) * (1 - v + log_v)
    accepted = (v > 0) & (torch.log(units[..., rounds : 2 * rounds]) < bound)
    first = accepted.to(torch.int8).argmax(dim=-1, keepdim=True)
    chosen = torch.where(accepted, log_v, 0.0).gather(-1, first).squeeze(-1)
    boost = torch.where(alpha < 1, torch.log(units[..., 2 * rounds]) / alpha, 0.0)
    return torch.log(d) + chosen + boost


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normals from two uniforms in (0, 1]."""
    radius, angle = torch.sqrt(-2 * torch.log(first)), 2 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)


def _open_unit(words: Tensor, dtype: torch.dtype) -> Tensor:
    """32-bit words as numbers at the middle of their cells, never 0: (w + 1/2) / 2**32."""
    return words.to(dtype) * 2.0**-32 + 2.0**-33


def _concentration(name: str, value: float | Tensor, shape: Shape | None) -> tuple[Tensor, tuple[int, ...]]:
    """A positive parameter as a tensor of the result's shape."""
    _checks.check_number(name, value, 0.0, exclusive="low")
    if not isinstance(value, Tensor):
        value = torch.tensor(float(value))
    elif not value.is_floating_point():
        value = value.to(torch.float32)
    result = tuple(value.shape) if shape is None else _shape(shape)
    return value.expand(result), result


def _key(key: Tensor) -> Tensor:
    _checks.check_key(key)
    return key


def _shape(shape: Shape) -> tuple[int, ...]:
    if isinstance(shape, int | torch.SymInt) and not isinstance(shape, bool):
        shape = (shape,)
    elif not isinstance(shape, tuple | list):
        _checks.fail("shape", _checks.describe(shape), "an integer or a tuple of integers")
    for length in shape:
        _checks.check_count("shape", length, low=0)
    return tuple(shape)


def _check_dtype(dtype: torch.dtype) -> None:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        _checks.fail("dtype", _checks.describe(dtype), "a floating-point dtype such as torch.float32")

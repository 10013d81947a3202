"""Gamma and beta numbers, for any concentration, by a program that does not depend on the numbers."""

import torch
from torch import Tensor

from .. import _checks
from . import execution
from .arguments import Shape, as_shape, check_parameter
from .draws import box_muller, open_unit

_REJECTION_ROUNDS = 6  # of Marsaglia-Tsang, each accepting over 95%: 1e-8 are left, at the mode


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

    Raises:
        FuncregError: when alpha is not above 0, or does not fit shape.

    >>> from funcreg import random
    >>> gamma(random.key(0), 3.0, (100_000,)).mean()
    tensor(3.0...)
    """
    alpha, shape = _concentration("alpha", alpha, shape, key)
    words = execution.words(key, (*shape, 16))
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

    Raises:
        FuncregError: when a or b is not above 0, or does not fit shape.

    >>> from funcreg import random
    >>> beta(random.key(0), 2.0, 6.0, (100_000,)).mean()
    tensor(0.25...)
    """
    if shape is None:
        shapes = [tuple(value.shape) if isinstance(value, Tensor) else () for value in (a, b)]
        try:
            shape = tuple(torch.broadcast_shapes(*shapes))
        except RuntimeError:
            _checks.fail("b", _checks.describe(b), f"a number, or a tensor that broadcasts with a, {shapes[0]}")
    a, shape = _concentration("a", a, shape, key)
    b, shape = _concentration("b", b, shape, key)
    words = execution.words(key, (*shape, 32))
    log_ratio = _log_gamma(words[..., :16], a) - _log_gamma(words[..., 16:], b)
    return torch.sigmoid(log_ratio).to(torch.promote_types(a.dtype, b.dtype))


def _log_gamma(words: Tensor, alpha: Tensor) -> Tensor:
    """The logarithm of a Gamma(alpha, 1) number, from 16 words in the last axis."""
    working = torch.float64 if alpha.dtype == torch.float64 else torch.float32
    units = open_unit(words, working)
    alpha = alpha.detach().to(working)
    boosted = torch.where(alpha < 1, alpha + 1, alpha)
    d = boosted - 1 / 3
    c = 1 / torch.sqrt(9 * d)
    rounds = _REJECTION_ROUNDS
    x = torch.cat(box_muller(units[..., : rounds // 2], units[..., rounds // 2 : rounds]), dim=-1)
    v = (1 + c.unsqueeze(-1) * x) ** 3
    log_v = torch.log(torch.where(v > 0, v, 1.0))
    bound = 0.5 * x**2 + d.unsqueeze(-1) * (1 - v + log_v)
    accepted = (v > 0) & (torch.log(units[..., rounds : 2 * rounds]) < bound)
    first = accepted.to(torch.int8).argmax(dim=-1, keepdim=True)
    chosen = torch.where(accepted, log_v, 0.0).gather(-1, first).squeeze(-1)
    boost = torch.where(alpha < 1, torch.log(units[..., 2 * rounds]) / alpha, 0.0)
    return torch.log(d) + chosen + boost


def _concentration(
    name: str, value: float | Tensor, shape: Shape | None, key: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """A positive parameter as a tensor of the result's shape; a number lies where the key does."""
    _checks.check_key(key)
    if shape is None:
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
    shape = as_shape(shape)
    dtype = value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.float32
    value = check_parameter(name, value, shape, 0.0, exclusive="low")
    if not isinstance(value, Tensor):
        value = torch.full((), float(value), dtype=torch.float64, device=key.device)
    return value.to(dtype).expand(shape), shape

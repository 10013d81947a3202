"""Keys: where randomness starts, and how one key becomes many. A key is consumed once."""

from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit
from . import execution

_BLOCK = torch.tensor([0, 1], device="cpu")  # what moves a key past one


def key(seed: int | Tensor, *, device: torch.device | str | None = None) -> Tensor:
    """A key from a seed: an int64 tensor (2,) = (seed, offset) of a Philox4x32-10 stream.

    Args:
        seed: an integer in [-2**63, 2**64), or an integer tensor of shape () (batched under vmap).
        device: where the key, and so everything drawn from it, lives. Default: the CPU, or the
            seed's own device when it is a tensor.

    Returns:
        The key, int64 of shape (2,): `torch.func._random.key(seed)` viewed as int64.

    Raises:
        FuncregError: when seed is not such an integer, or torch does not know the device.

    >>> key(7)
    tensor([7, 0])
    """
    if device is not None:
        _checks.check_device("device", device)
    if isinstance(seed, Tensor):
        _checks.check_integers("seed", seed)
        if seed.ndim:
            _checks.fail("seed", _checks.describe(seed), "an integer, or an integer tensor of shape ()")
        seed = seed.to(device=device, dtype=torch.int64)
        return torch.stack((seed, torch.zeros_like(seed)))
    _check_word("seed", seed)
    return torch.tensor([_signed(seed), 0], dtype=torch.int64, device=device)


def split(key: Tensor, num: int = 2) -> Tensor:
    """Split a key into `num` independent ones; the key itself must not be used again.

    Args:
        key: int64 (2,).
        num: how many, at least 1.

    Returns:
        int64 (num, 2); row i is `fold_in(key, i)`.

    Raises:
        FuncregError: for what is not one key, or num below 1.

    >>> key_a, key_b = split(key(0))
    >>> bool((key_a == key_b).all())
    False
    """
    _checks.check_count("num", num)
    return execution.split(key, num)


def fold_in(key: Tensor, data: int | Tensor) -> Tensor:
    """A new key from a key and an integer: a step, a layer's index, a rank.

    Args:
        key: int64 (2,).
        data: an integer in [-2**63, 2**64), or an integer tensor of shape () (batched under vmap).

    Returns:
        int64 (2,), equal to `split(key, data + 1)[data]` without the work.

    Raises:
        FuncregError: for what is not one key, or data that is not an integer.

    >>> torch.equal(fold_in(key(0), 3), split(key(0), 4)[3])
    True
    """
    _checks.check_key(key)
    if not isinstance(data, Tensor):
        _check_word("data", data)
        data = torch.tensor(_signed(data), device=key.device)
    else:
        _checks.check_integers("data", data)
        if data.ndim:
            _checks.fail("data", _checks.describe(data), "an integer, or an integer tensor of shape ()")
    # Key i of a split comes from block offset + i.
    shifted = torch.stack((key[0], key[1] + data.to(torch.int64)))
    return execution.split(shifted, 1)[0]


def skip(key: Tensor, draws: int) -> Tensor:
    """The key just past `draws` 32-bit words of a key's stream.

    Drawing up to `draws` elements with `uniform`, `bits`, `bernoulli` or a mask from `key`,
    and then from `skip(key, draws)`, uses no block twice. It costs one addition where a split
    costs a Philox call, and nothing at all in a compiled program that does not use the result.

    Args:
        key: int64 (2,).
        draws: words to pass over, at least 0.

    Returns:
        int64 (2,).

    >>> both = torch.cat((execution.words(key(0), (4,)), execution.words(skip(key(0), 4), (4,))))
    >>> torch.equal(both, execution.words(key(0), (8,)))
    True
    """
    _checks.check_key(key)
    _checks.check_count("draws", draws, low=0)
    blocks = -(-draws // 4)
    if type(key) is Tensor and key.device.type == "cpu" and not _jit.compiling():
        return torch.add(key, _BLOCK, alpha=blocks)  # a third of the time
    return torch.stack((key[0], key[1] + blocks))


def of_members(key: Tensor, members: int) -> Tensor:
    """A key for each member: those given, int64 (members, 2), or the parts of one key's split.

    >>> of_members(of_members(key(0), 3), 3).shape
    torch.Size([3, 2])
    """
    each = isinstance(key, Tensor) and key.dtype == torch.int64 and key.shape == (members, 2)
    return key if each else split(key, members)


def _check_word(argument: str, value: Any) -> None:
    integer = isinstance(value, int | torch.SymInt) and not isinstance(value, bool)
    if not integer or not -(2**63) <= value < 2**64:
        _checks.fail(argument, _checks.describe(value), "an integer in [-2**63, 2**64)")


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    return value - 2**64 if value >= 2**63 else value

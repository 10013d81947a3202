"""Philox4x32-10 as plain tensor operations: the reference, bit for bit PyTorch's own.

A counter-based generator: block number `counter` of the stream of `seed` is four 32-bit
words, so any element of any draw can be computed on its own. int64 carries the unsigned
32-bit words, since uint64 lacks most operators; products wrap modulo 2**64, as they should.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import sys

import torch
from torch import Tensor

from .. import _jit

WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

_BYTES = (0, 1, 2, 3) if sys.byteorder == "little" else (3, 2, 1, 0)  # of a word, as memory has them

# Before 2.15 torch compiled a product of scalars to C++'s signed one, whose overflow gives wrong bits.
_OVERFLOW_IS_UNDEFINED = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 15)

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def rounds(counter: Words, key: tuple[Tensor, Tensor], *, halved: bool = False) -> Words:
    """Ten Philox rounds of a 128-bit counter under a 64-bit key, all as 32-bit words in int64.

    halved: without products that overflow.

    >>> zero = torch.zeros((), dtype=torch.int64)
    >>> [hex(word) for word in rounds((zero, zero, zero, zero), (zero, zero))]  # Random123's vector
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        (h0, l0), (h1, l1) = _product(c0, _MULTIPLIERS[0], halved), _product(c2, _MULTIPLIERS[1], halved)
        # c1, c3 and the key may carry bits above 32, which the next round's mask drops.
        c0, c1, c2, c3 = (h1 ^ c1 ^ k0) & WORD, l1, (h0 ^ c3 ^ k1) & WORD, l0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0, c1 & WORD, c2, c3 & WORD


def _product(word: Tensor, multiplier: int, halved: bool) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of a 64-bit product; above bit 32 either may carry others."""
    if halved:
        upper, lower = (word >> 16) * multiplier, (word & 0xFFFF) * multiplier
        return (upper + (lower >> 16)) >> 16, ((upper & 0xFFFF) << 16) + lower
    product = word * multiplier
    return product >> 32, product


def blocks(key: Tensor, count: int) -> Words:
    """The first `count` blocks of a key's stream: four (count,) tensors of 32-bit words."""
    return _blocks(key, count, _OVERFLOW_IS_UNDEFINED and _jit.compiling())


@_jit.as_one_operator  # else two thirds of what is traced of a small step
def _blocks(key: Tensor, count: int, halved: bool) -> Words:
    seed, offset = key[0], key[1]
    counter = offset + torch.arange(count, device=key.device)
    zero = torch.zeros_like(counter)
    words = counter & WORD, (counter >> 32) & WORD, zero, zero
    return rounds(words, (seed & WORD, (seed >> 32) & WORD), halved=halved)


def words(key: Tensor, count: int) -> Tensor:
    """The first `count` 32-bit words of a key's stream, four a block: a (count,) int64 tensor."""
    return torch.stack(blocks(key, -(-count // 4)), dim=-1).reshape(-1)[:count]


def split(key: Tensor, num: int) -> Tensor:
    """Keys from the first `num` blocks: seed = w0 | w1 << 32, offset = w2 | w3 << 32."""
    w0, w1, w2, w3 = blocks(key, num)
    return torch.stack((w0 | (w1 << 32), w2 | (w3 << 32)), dim=-1)


def uniform(key: Tensor, count: int) -> Tensor:
    """`count` float32 numbers in [0, 1): the low 24 bits of each word, times 2**-24."""
    # Narrowed to int32 before the four lanes are interleaved: half the memory traffic.
    lanes = [(word & 0xFFFFFF).to(torch.int32) for word in blocks(key, -(-count // 4))]
    return torch.stack(lanes, dim=-1).reshape(-1)[:count].to(torch.float32) * 2.0**-24


def kept(key: Tensor, count: int, rate: float | Tensor) -> Tensor:
    """Which of `uniform(key, count)` are at least the rate: int8, 1 for yes.

    Four answers travel in one word until the end: a byte is stored where `uniform` stores four,
    one next to the other.
    """
    # A uniform is n * 2**-24 and the rate a float32: n >= rate * 2**24 is the same question.
    least = torch.ceil(torch.as_tensor(rate, dtype=torch.float32, device=key.device) * 2.0**24).to(torch.int64)
    answers = torch.zeros((), dtype=torch.int64, device=key.device)
    for lane, word in enumerate(blocks(key, -(-count // 4))):
        answers = answers | torch.where((word & 0xFFFFFF) >= least, 1 << 8 * _BYTES[lane], 0)
    return answers.to(torch.int32).view(torch.int8)[:count]

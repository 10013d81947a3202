"""What the draws of `random` are compared with: PyTorch's own generator, published vectors, scipy's distributions."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg.random import philox
from tests.oracles import Pair, oracle

KEY = fr.random.key(1234)
SAME_BITS = "the same algorithm on the same bits"

# name: why there is nothing to compare it with
WITHOUT_ORACLE = {"random.backend": "it says which of two executions draws"}


def torchs() -> Any:
    """torch.func._random; where it is missing, or has no kernels for the CPU, the row is skipped."""
    if fr.random.backend() != "native":
        pytest.skip("this torch has no stateless generator on the CPU")
    return pytest.importorskip("torch.func._random")


def their_key() -> Tensor:
    return torchs().key(1234)


def bits_of(words: Tensor) -> Tensor:
    """uint64 and uint32 as int64, which holds their bits."""
    return words.view(torch.int64) if words.dtype == torch.uint64 else words.to(torch.int64)


@oracle("random.key", against="torch.func._random.key", tolerance=0, because=SAME_BITS)
def key_of_torch() -> Pair:
    seeds = (0, 7, 2**63 - 1)
    return [fr.random.key(seed) for seed in seeds], [bits_of(torchs().key(seed)) for seed in seeds]


@oracle("random.split", against="torch.func._random.split", tolerance=0, because=SAME_BITS)
def split_of_torch() -> Pair:
    return fr.random.split(KEY, 100), bits_of(torchs().split(their_key(), 100))


@oracle("random.fold_in", against="torch.func._random.fold_in", tolerance=0, because=SAME_BITS)
def fold_in_of_torch() -> Pair:
    data = (0, 77, 2**40)
    return [fr.random.fold_in(KEY, each) for each in data], [
        bits_of(torchs().fold_in(their_key(), each)) for each in data
    ]


@oracle("random.bits", against="torch.func._random.bits", tolerance=0, because=SAME_BITS)
def bits_of_torch() -> Pair:
    return fr.random.bits(KEY, (50, 3)), bits_of(torchs().bits(their_key(), 50, 3, dtype=torch.uint32))


@oracle("random.skip", against="torch.func._random.uniform, further along", tolerance=0, because=SAME_BITS)
def skip_in_torchs_stream() -> Pair:
    stream = torchs().uniform(their_key(), 200)
    drawn = {0: 0, 1: 4, 4: 4, 30: 32, 100: 100}  # whole blocks of four are passed over
    ours = [fr.random.uniform(fr.random.skip(KEY, draws), 50) for draws in drawn]
    return ours, [stream[start : start + 50] for start in drawn.values()]


@oracle("random.uniform", against="torch.func._random.uniform", tolerance=0, because=SAME_BITS)
def uniform_of_torch() -> Pair:
    return fr.random.uniform(KEY, (50, 3)), torchs().uniform(their_key(), 50, 3)


@oracle("random.use_backend", against="torch.func._random, by tensor operations", tolerance=0, because=SAME_BITS)
def pure_execution_of_torch() -> Pair:
    theirs = torchs()
    with fr.random.use_backend("pure"):
        ours = fr.random.split(KEY, 9), fr.random.bits(KEY, (7, 5)), fr.random.uniform(KEY, (7, 5))
    words = theirs.bits(their_key(), 7, 5, dtype=torch.uint32)
    return ours, (bits_of(theirs.split(their_key(), 9)), bits_of(words), theirs.uniform(their_key(), 7, 5))


@oracle("random.compiled_draws_are", against="torch.func._random.uniform, eager", tolerance=0, because=SAME_BITS)
def compiled_draws_of_torch() -> Pair:
    def draw(key: Tensor, execution: str) -> Tensor:
        with fr.random.compiled_draws_are(execution):
            return fr.random.uniform(key, (7, 5))

    expected = torchs().uniform(their_key(), 7, 5)
    return [fr.jit(partial(draw, execution=each))(KEY) for each in ("pure", "native")], [expected, expected]


@oracle(
    "random.normal",
    against="torch.func._random.normal",
    tolerance=1e-6,
    because="float32: log and cos differ by vendor in the last digit",
)
def normal_of_torch() -> Pair:
    return fr.random.normal(KEY, (50, 3)), torchs().normal(their_key(), 50, 3)


# Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, result.
VECTORS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def words_of(text: str) -> Any:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@oracle("random.bits", against="Random123's three vectors, by the ten rounds", tolerance=0, because="integers")
def published_vectors() -> Pair:
    ours = [philox.rounds(words_of(counter), words_of(key)) for counter, key, _ in VECTORS]
    return ours, [words_of(expected) for *_, expected in VECTORS]


@oracle("random.bits", against="Random123's vector of zeros, which is key(0)'s stream", tolerance=0, because="integers")
def published_stream() -> Pair:
    return fr.random.bits(fr.random.key(0), 4), torch.stack(words_of(VECTORS[0][2]))


@oracle("random.uniform", against="the lower 24 bits of Random123's vector of zeros", tolerance=0, because="exact")
def published_uniform() -> Pair:
    expected = [(int(word) & 0xFFFFFF) / 2**24 for word in words_of(VECTORS[0][2])]
    return fr.random.uniform(fr.random.key(0), 4), torch.tensor(expected)


@oracle("random.randint", against="floor(range * word / 2**64) in Python's integers", tolerance=0, because="integers")
def randint_in_python() -> Pair:
    ranges = ((0, 7), (-3, 4), (2**40, 2**40 + 5), (0, 2**31))
    low_words, high_words = fr.random.bits(KEY, (1000, 2)).T.tolist()
    words = [low | high << 32 for low, high in zip(low_words, high_words, strict=True)]
    theirs = [[low + (word * (high - low) >> 64) for word in words] for low, high in ranges]
    return [fr.random.randint(KEY, (1000,), low, high) for low, high in ranges], [torch.tensor(each) for each in theirs]


@oracle("random.permutation", against="numpy.argsort of 64-bit words", tolerance=0, because="integers")
def permutation_by_numpy() -> Pair:
    words = fr.random.bits(KEY, (1000, 2)).numpy()
    return fr.random.permutation(KEY, 1000), np.argsort(words[:, 0] | words[:, 1] << 32, kind="stable")


@oracle(
    "random.truncated_normal",
    against="scipy.stats.truncnorm.ppf of the same words",
    tolerance=1e-11,
    because="float64: another inverse of the CDF, by its logarithm",
)
def truncated_normal_by_scipy() -> Pair:
    units = (fr.random.bits(KEY, 1000).double() + 0.5) / 2**32
    ours, theirs = [], []
    for low, high in TRUNCATIONS:
        ours.append(fr.random.truncated_normal(KEY, 1000, low=low, high=high, mean=3.0, std=2.0, dtype=torch.float64))
        theirs.append(scipy.stats.truncnorm.ppf(units.numpy(), low, high, loc=3.0, scale=2.0))
    return ours, theirs


@oracle(
    "random.categorical",
    against="numpy's argmax of logits and Gumbel noise of the same words",
    tolerance=0,
    because="the same class in every row",
)
def categorical_by_numpy() -> Pair:
    logits = fr.random.normal(fr.random.key(1), (1000, 5), dtype=torch.float64)
    units = (fr.random.bits(KEY, (1000, 5)).double().numpy() + 0.5) / 2**32
    return fr.random.categorical(KEY, logits), np.argmax(logits.numpy() - np.log(-np.log(units)), axis=-1)


def levels(draws: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> Pair:
    """A law's CDF at each draw in order, and the draws' own: the distance of Kolmogorov and Smirnov's test.

    Keys are fixed, so it is a constant, and no row can flake.
    """
    ordered = np.sort(draws.double().numpy())
    return cdf(ordered), (np.arange(ordered.size) + 0.5) / ordered.size


def critical(n: int) -> dict[str, Any]:
    """The distance that one of a million samples of a law exceeds."""
    tolerance = float(scipy.stats.kstwobign.isf(1e-6)) / math.sqrt(n)
    return {"tolerance": tolerance, "because": f"{n} draws: the test's critical value at 1e-6"}


def frequencies(n: int, p: float, draws: str = "draws") -> dict[str, Any]:
    return {"tolerance": 5 * math.sqrt(p * (1 - p) / n), "because": f"{n} {draws}: 5 standard errors"}


@oracle("random.uniform", against="scipy.stats.uniform", **critical(200_000))
def uniform_is_uniform() -> Pair:
    return levels(fr.random.uniform(KEY, 200_000), scipy.stats.uniform.cdf)


@oracle("random.normal", against="scipy.stats.norm", **critical(200_001))
def normal_is_normal() -> Pair:
    return levels(fr.random.normal(KEY, 200_001), scipy.stats.norm.cdf)


@oracle("random.normal", against="scipy.stats.norm, in float64", **critical(200_001))
def normal_is_normal_in_float64() -> Pair:
    return levels(fr.random.normal(KEY, 200_001, dtype=torch.float64), scipy.stats.norm.cdf)


@oracle(
    "random.normal",
    against="the first four moments of scipy.stats.norm",
    tolerance=5 / math.sqrt(200_000),
    because="200000 draws: 5 standard errors, in which each is measured",
)
def normal_has_its_moments() -> Pair:
    draws, moment = fr.random.normal(KEY, 200_000, dtype=torch.float64), scipy.stats.norm.moment
    scales = {power: math.sqrt(moment(2 * power) - moment(power) ** 2) for power in (1, 2, 3, 4)}
    ours = [(draws**power).mean() / scale for power, scale in scales.items()]
    return ours, [float(moment(power)) / scale for power, scale in scales.items()]


TRUNCATIONS = ((-2.0, 2.0), (0.5, 1.0), (-6.0, -4.0), (5.0, 7.0), (-30.0, -29.0), (9.0, 10.0))


def truncated(low: float, high: float) -> Pair:
    draws = fr.random.truncated_normal(KEY, 20_000, low=low, high=high, dtype=torch.float64)
    return levels(draws, scipy.stats.truncnorm(low, high).cdf)


for _low, _high in TRUNCATIONS:
    _against = f"scipy.stats.truncnorm({_low:g}, {_high:g})"
    oracle("random.truncated_normal", against=_against, **critical(20_000))(partial(truncated, _low, _high))


@oracle("random.bernoulli", against="its probability", **frequencies(100_000, 0.5))
def bernoulli_has_its_frequency() -> Pair:
    p = torch.tensor([0.0, 0.25, 0.9, 1.0])
    return vmap(lambda each: fr.random.bernoulli(KEY, each, 100_000))(p).double().mean(dim=1), p


def randint_frequencies(low: int, high: int) -> Pair:
    counts = torch.bincount(fr.random.randint(KEY, 70_000, low, high) - low)
    return counts / 70_000, torch.full((high - low,), 1 / (high - low), dtype=torch.float64)


for _low, _high in ((0, 7), (-3, 4), (2**40, 2**40 + 5)):
    oracle(
        "random.randint",
        against=f"1 / {_high - _low} each of {_low} ... {_high - 1}",
        constant=True,
        **frequencies(70_000, 1 / (_high - _low)),
    )(partial(randint_frequencies, _low, _high))


@oracle("random.randint", against="scipy.stats.uniform, over the widest range", **critical(100_000))
def randint_fills_the_widest_range() -> Pair:
    return levels(fr.random.randint(KEY, 100_000, 0, 2**31).double() / 2**31, scipy.stats.uniform.cdf)


@oracle(
    "random.permutation",
    against="1 / 24 each of the orders of four",
    constant=True,
    **frequencies(24_000, 1 / 24, "permutations"),
)
def permutation_is_fair() -> Pair:
    orders = vmap(lambda key: fr.random.permutation(key, 4))(fr.random.split(KEY, 24_000))
    ranks = {order: rank for rank, order in enumerate(itertools.permutations(range(4)))}
    counts = torch.bincount(torch.tensor([ranks[tuple(order)] for order in orders.tolist()]), minlength=24)
    return counts / 24_000, torch.full((24,), 1 / 24)


@oracle("random.categorical", against="torch.softmax", **frequencies(100_000, 0.5))
def categorical_has_the_softmaxs_frequencies() -> Pair:
    logits = torch.tensor([0.0, 1.0, -1.0, -math.inf])
    draws = fr.random.categorical(KEY, logits.expand(100_000, 4))
    return torch.bincount(draws, minlength=4) / 100_000, torch.softmax(logits, dim=0)


def gamma(alpha: float, dtype: torch.dtype) -> Pair:
    return levels(fr.random.gamma(KEY, torch.tensor(alpha, dtype=dtype), 50_000), scipy.stats.gamma(alpha).cdf)


# Below alpha of 1/2 float32 underflows to 0 too often for a test of the whole law, so float64 there.
for _alpha in (0.05, 0.3, 0.5, 1.0, 1.01, 3.0, 20.0, 100.0):
    _dtype = torch.float64 if _alpha < 0.5 else torch.float32
    oracle("random.gamma", against=f"scipy.stats.gamma({_alpha:g})", **critical(50_000))(partial(gamma, _alpha, _dtype))

BELOW_ONE = 1 - 1e-12  # even float64 rounds some of Beta(0.05, 0.05) to 1


def beta(a: float, b: float, dtype: torch.dtype) -> Pair:
    """The law below 1, and how much of it is there."""
    draws = fr.random.beta(KEY, torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype), 50_000)
    law, below = scipy.stats.beta(a, b), draws < BELOW_ONE
    ours, theirs = levels(draws[below], lambda x: law.cdf(x) / law.cdf(BELOW_ONE))
    return (ours, below.double().mean()), (theirs, float(law.cdf(BELOW_ONE)))


for _a, _b, _dtype in (
    (0.05, 0.05, torch.float64),
    (0.05, 100.0, torch.float64),
    (0.4, 0.4, torch.float64),
    (0.5, 3.0, torch.float64),
    (1.0, 1.0, torch.float32),
    (2.0, 5.0, torch.float32),
    (100.0, 100.0, torch.float32),
):
    _against = f"scipy.stats.beta({_a:g}, {_b:g})"
    oracle("random.beta", against=_against, **critical(50_000))(partial(beta, _a, _b, _dtype))


@oracle("random.beta", against="the mean and variance of scipy.stats.beta(0.05, 0.05)", **frequencies(200_000, 0.5))
def beta_in_float32_at_005() -> Pair:
    draws = fr.random.beta(KEY, 0.05, 0.05, 200_000)
    return (draws.mean(), draws.var()), scipy.stats.beta.stats(0.05, 0.05)

"""`sweep` against scikit-learn's grid, scipy's distributions, Python's integers and numpy's sorting."""

import zlib
from typing import Any

import numpy as np
import scipy.stats
import torch
from sklearn.model_selection import ParameterGrid

from funcreg import random, sweep
from funcreg.train import FitResult, TrainState
from tests.oracles import Pair, oracle
from tests.oracles.random import torchs

KEY = random.key(0)
UNIT = random.uniform(KEY, 1000).double().numpy()  # the draws that the first three map
LOSSES = random.normal(random.key(1), (5, 7), dtype=torch.float64)
EPOCHS = torch.tensor([5, 1, 3, 2, 4, 5, 1])
WEIGHTS = random.normal(random.key(2), (7, 3))
RATES = {"rate": random.uniform(random.key(3), 7, dtype=torch.float64)}


@oracle("sweep.grid", against="sklearn.model_selection.ParameterGrid", tolerance=0, because="the same bits")
def grid() -> Pair:
    axes = {"a": [0.0, 0.25, 0.5], "b": [0.1, 1.0], "c": [2, 3, 5, 7]}
    rows = list(ParameterGrid(axes))
    return sweep.grid(**axes), {name: np.array([row[name] for row in rows]) for name in axes}


@oracle("sweep.uniform", against="scipy.stats.uniform.ppf of the key's draws", tolerance=1e-15, because="one rounding")
def uniform() -> Pair:
    return sweep.uniform(-1.0, 2.0)(KEY, 1000), scipy.stats.uniform(-1.0, 3.0).ppf(UNIT)


@oracle(
    "sweep.log_uniform",
    against="scipy.stats.loguniform.ppf of the key's draws",
    tolerance=1e-16,
    because="exp and log against a power, of numbers up to 0.1",
)
def log_uniform() -> Pair:
    theirs = scipy.stats.loguniform(1e-5, 1e-1).ppf(UNIT)
    return sweep.log_uniform(1e-5, 1e-1)(KEY, 1000), theirs


def indices(low: int, high: int) -> list[int]:
    """floor(range * u), u of 64 random bits, by Python's integers."""
    words = random.bits(KEY, (1000, 2)).tolist()
    return [low + ((high - low) * (first + (second << 32)) >> 64) for first, second in words]


@oracle("sweep.integers", against="Python's integers of any size", tolerance=0, because="integers")
def integers() -> Pair:
    return sweep.integers(-3, 50)(KEY, 1000), torch.tensor(indices(-3, 50))


@oracle("sweep.choice", against="numpy's indexing by Python's integers", tolerance=0, because="the same bits")
def choice() -> Pair:
    values = [0.1, 0.5, 2.5]
    return sweep.choice(values)(KEY, 1000), np.array(values)[indices(0, 3)]


@oracle(
    "sweep.random_search",
    against="scipy.stats, each name with its own fold of the key",
    tolerance=1e-15,
    because="one rounding",
)
def random_search() -> Pair:
    names, high = ("rate", "decay"), {"rate": 0.5, "decay": 0.75}
    draws = {name: random.uniform(random.fold_in(KEY, zlib.crc32(name.encode())), 50).double() for name in names}
    ours = sweep.random_search(KEY, 50, rate=(0.0, 0.5), decay=sweep.uniform(0.0, 0.75))
    return ours, {name: torch.from_numpy(scipy.stats.uniform(0, high[name]).ppf(draws[name])) for name in names}


@oracle("sweep.table", against="numpy.argsort", tolerance=0, because="integers")
def table() -> Pair:
    losses = LOSSES[0]
    rows = sweep.table(RATES, {"loss": losses}).sort("loss", mode="max").rows
    order = np.argsort(-losses.numpy())
    return [row["member"] for row in rows], list(order)


def result() -> FitResult:
    unused: Any = None
    history = {"loss": LOSSES, "other": LOSSES**2}
    return FitResult(unused, history, TrainState({"w": WEIGHTS}, {}, (), unused, unused), EPOCHS, unused, unused, False)


@oracle("sweep.at_best", against="numpy's indexing", tolerance=0, because="the same bits")
def at_best() -> Pair:
    theirs = LOSSES.numpy()[EPOCHS.numpy() - 1, np.arange(7)]
    return sweep.at_best(result()), {"loss": theirs, "other": theirs**2}


@oracle("sweep.best", against="numpy.argmax", tolerance=0, because="the same bits")
def best() -> Pair:
    at = LOSSES.numpy()[EPOCHS.numpy() - 1, np.arange(7)]
    index = int(np.argmax(at))
    member = sweep.best(result(), RATES, mode="max")
    ours = [member.index, member.params["w"], member.hparams["rate"], member.metrics["loss"]]
    return ours, [index, WEIGHTS[index], RATES["rate"][index], at[index]]


@oracle(
    "sweep.table",
    against="numpy's mean and std(ddof=1) by seed",
    tolerance=1e-15,
    because="float64; sums in another order",
)
def over_seeds() -> Pair:
    hparams = sweep.grid(rate=[0.5, 0.0], decay=[3.0, 1.0, 2.0], seed=range(4))
    losses = random.normal(random.key(5), 24, dtype=torch.float64)
    rows = sweep.table(hparams, {"loss": losses}).over("seed").rows
    blocks = losses.numpy().reshape(6, 4)
    theirs = [*zip(hparams["rate"][::4].tolist(), hparams["decay"][::4].tolist(), blocks.mean(1), strict=True)]
    ours = [(row["rate"], row["decay"], row["loss"]) for row in rows]
    return (ours, [row["loss sd"] for row in rows]), (theirs, list(blocks.std(1, ddof=1)))


@oracle("sweep.each", against="scikit-learn's ParameterGrid, one call each", tolerance=0, because="the same numbers")
def each() -> Pair:
    axes = {"a": [1, 2, 3], "b": [10, 20]}

    def run(a: int, b: int) -> sweep.Table:
        return sweep.table({"c": torch.tensor([0, 1])}, {"sum": torch.tensor([a + b, a + b + 1])})

    theirs = [[row["a"], row["b"], c, row["a"] + row["b"] + c] for row in ParameterGrid(axes) for c in (0, 1)]
    return [[row[name] for name in ("a", "b", "c", "sum")] for row in sweep.each(run, **axes).rows], theirs


@oracle("sweep.paired_keys", against="rows of torch's own stateless split", tolerance=0, because="integers")
def paired_keys() -> Pair:
    seeds = torch.tensor([3, 0, 2, 3, 1])
    theirs = torchs().split(KEY.view(torch.uint64), 4).view(torch.int64)
    return sweep.paired_keys(seeds, key=KEY), theirs[seeds]

"""Bad arguments of `sweep`."""

from typing import Any

import torch

from funcreg import sweep
from funcreg.train import FitResult
from tests.refusals import KEY, Refusal, X, bad


def result(losses: list[list[float]], epochs: Any) -> FitResult:
    """Of two members, with one loss an epoch and member."""
    history = {"loss": torch.tensor(losses)} if losses else {}
    return FitResult(bad(None), history, bad(({"w": torch.ones(2)}, {})), epochs, epochs, epochs, False)


RESULT = result([[1.0, 2.0]], torch.tensor([1, 1]))
RATES = {"rate": torch.tensor([0.1, 0.2])}
LOSSES = {"loss": torch.tensor([1.0, 2.0])}
TABLE = sweep.table(RATES, LOSSES)

REFUSALS: list[Refusal] = [
    ("sweep.grid", "axes", lambda: sweep.grid()),
    ("sweep.grid", "lr", lambda: sweep.grid(lr=bad(0.1))),
    ("sweep.grid", "lr", lambda: sweep.grid(lr=[])),
    ("sweep.grid", "rate", lambda: sweep.grid(rate=bad(["a"]))),
    ("sweep.random_search", "key", lambda: sweep.random_search(bad(0), 3, lr=(0.0, 1.0))),
    ("sweep.random_search", "n", lambda: sweep.random_search(KEY, 0, lr=(0.0, 1.0))),
    ("sweep.random_search", "ranges", lambda: sweep.random_search(KEY, 3)),
    ("sweep.random_search", "lr", lambda: sweep.random_search(KEY, 3, lr=(1.0, 0.1))),
    ("sweep.random_search", "lr", lambda: sweep.random_search(KEY, 3, lr=bad((0.1, 0.2, 0.3)))),
    ("sweep.random_search", "lr", lambda: sweep.random_search(KEY, 3, lr=bad([0.1, 0.2]))),
    ("sweep.random_search", "lr", lambda: sweep.random_search(KEY, 3, lr=bad(0.1))),
    ("sweep.random_search", "lr", lambda: sweep.random_search(KEY, 3, lr=lambda key, n: X)),
    ("sweep.uniform", "low", lambda: sweep.uniform(1.0, 1.0)),
    ("sweep.uniform", "low", lambda: sweep.uniform(bad("0"), 1.0)),
    ("sweep.uniform", "high", lambda: sweep.uniform(0.0, float("inf"))),
    ("sweep.uniform", "high", lambda: sweep.uniform(0.0, torch.ones(2))),
    ("sweep.log_uniform", "low", lambda: sweep.log_uniform(0.0, 1.0)),
    ("sweep.log_uniform", "low", lambda: sweep.log_uniform(2.0, 1.0)),
    ("sweep.log_uniform", "high", lambda: sweep.log_uniform(1.0, bad(None))),
    ("sweep.integers", "low", lambda: sweep.integers(bad(1.0), 3)),
    ("sweep.integers", "high", lambda: sweep.integers(3, 3)),
    ("sweep.choice", "values", lambda: sweep.choice([])),
    ("sweep.choice", "values", lambda: sweep.choice(bad("ab"))),
    ("sweep.choice", "values", lambda: sweep.choice(X)),
    ("sweep.table", "metrics", lambda: sweep.table(RATES, {"rate": LOSSES["loss"]})),
    ("sweep.table", "metrics", lambda: sweep.table(RATES, {"loss": torch.ones(3)})),
    ("sweep.table", "metrics's loss", lambda: sweep.table(RATES, {"loss": torch.ones(2, 3)})),
    ("sweep.table", "hparams or metrics", lambda: sweep.table(RATES, {"member": torch.ones(2)})),
    ("sweep.table", "by", lambda: sweep.table(RATES, LOSSES).over("seed")),
    ("sweep.table", "table", lambda: sweep.table({"n": torch.ones(2), **RATES}, LOSSES).over("rate")),
    ("sweep.each", "run", lambda: sweep.each(bad(3), a=["x"])),
    ("sweep.each", "axes", lambda: sweep.each(lambda: TABLE)),
    ("sweep.each", "a", lambda: sweep.each(lambda a: TABLE, a=[])),
    ("sweep.each", "a", lambda: sweep.each(lambda a: TABLE, a="relu")),
    ("sweep.each", "a", lambda: sweep.each(lambda a: TABLE, a=["x", "x"])),
    ("sweep.each", "a", lambda: sweep.each(lambda a: TABLE, a=[lambda x: x])),
    ("sweep.each", "run", lambda: sweep.each(bad(lambda a: {}), a=["x"])),
    ("sweep.each", "axes", lambda: sweep.each(lambda rate: TABLE, rate=["x"])),
    (
        "sweep.each",
        "run",
        lambda: sweep.each(lambda a: sweep.table(None, {a: torch.ones(2)}), a=["x", "y"]),
    ),
    ("sweep.paired_keys", "seeds", lambda: sweep.paired_keys(torch.ones(3), key=KEY)),
    ("sweep.paired_keys", "seeds", lambda: sweep.paired_keys(bad(range(3)), key=KEY)),
    ("sweep.paired_keys", "key", lambda: sweep.paired_keys(torch.arange(3), key=bad(0))),
    ("sweep.table", "hparams", lambda: sweep.table(None, {})),
    ("sweep.table", "by", lambda: sweep.table(RATES, LOSSES).sort("lr")),
    ("sweep.table", "mode", lambda: sweep.table(RATES, LOSSES).sort("loss", mode="lowest")),
    ("sweep.at_best", "result", lambda: sweep.at_best(bad({}))),
    ("sweep.at_best", "result", lambda: sweep.at_best(result([[1.0], [2.0]], 2))),
    ("sweep.at_best", "result", lambda: sweep.at_best(result([], torch.tensor([0, 0])))),
    ("sweep.best", "result", lambda: sweep.best(result([[1.0], [2.0]], 2), RATES)),
    ("sweep.best", "result", lambda: sweep.best(result([[float("nan"), 1.0]], torch.tensor([1, 0])), RATES)),
    ("sweep.best", "metric", lambda: sweep.best(RESULT, RATES, metric="accuracy")),
    ("sweep.best", "mode", lambda: sweep.best(RESULT, RATES, mode="lowest")),
    ("sweep.best", "hparams", lambda: sweep.best(RESULT, {"rate": torch.ones(3)})),
]

"""Good calls of `sweep`."""

from typing import Any

import torch

from funcreg import random, sweep
from funcreg.train import FitResult, TrainState
from tests.bad_arguments.call import KEY, Call, call

HISTORY = {"loss": torch.tensor([[3.0, 4.0], [1.0, 2.0]])}
EPOCHS = torch.tensor([1, 2])
FINAL: Any = TrainState({"w": torch.ones(2)}, {}, (), random.split(KEY, 2), torch.ones(2))
RESULT = FitResult(FINAL, HISTORY, FINAL, EPOCHS, EPOCHS, EPOCHS, False)  # pyright: ignore
HPARAMS = {"lr": torch.tensor([0.1, 0.2])}
TABLE = sweep.table(HPARAMS, HISTORY | {"loss": torch.ones(2)})

RANGES = {
    "uniform": sweep.uniform(0.0, 1.0),
    "log_uniform": sweep.log_uniform(0.1, 1.0),
    "integers": sweep.integers(0, 5),
    "choice": sweep.choice([1, 2, 3]),
}

CALLS: list[Call] = [
    call("sweep.grid", lambda rate, lr: sweep.grid(rate=rate, lr=lr), rate=[0.0, 0.5], lr=torch.tensor([0.1, 0.2])),
    call("sweep.random_search", lambda key, n, rate: sweep.random_search(key, n, rate=rate), key=KEY, n=3,
         rate=(0.0, 0.5)),
    call("sweep.random_search of a range", lambda rate: sweep.random_search(KEY, 3, rate=rate),
         rate=RANGES["uniform"]),
    call("sweep.choice", sweep.choice, values=[0.1, 0.2]),
    call("sweep.choice of a tensor", sweep.choice, values=torch.tensor([0.1, 0.2])),
    call("sweep.integers", sweep.integers, low=0, high=5),
    call("sweep.log_uniform", sweep.log_uniform, low=0.1, high=1.0),
    call("sweep.uniform", sweep.uniform, low=0.0, high=1.0),
    *(call(f"sweep.{name}()", draw, key=KEY, n=3) for name, draw in RANGES.items()),
    call("sweep.paired_keys", sweep.paired_keys, seeds=torch.tensor([0, 1]), key=KEY),
    call("sweep.each", lambda run, size: sweep.each(run, size=size), run=lambda size: TABLE, size=[2, 3]),
    call("sweep.at_best", sweep.at_best, result=RESULT),
    call("sweep.best", sweep.best, result=RESULT, hparams=HPARAMS, metric="loss", mode="min"),
    call("sweep.table", sweep.table, hparams=HPARAMS, metrics={"loss": torch.ones(2)}),
    call("sweep.table().sort", TABLE.sort, by="loss", mode="min"),
]  # fmt: skip

"""Cases of `sweep`."""

from typing import Any

import torch
from torch import Tensor

from funcreg import sweep
from funcreg.train import FitResult
from tests.contract.case import Case, drawn

RANGES: dict[str, Any] = {
    "rate": (0.0, 0.5),
    "lr": sweep.log_uniform(1e-4, 1e-1),
    "width": sweep.integers(1, 9),
    "batch": sweep.choice([16, 32, 64]),
}


def _at_best(history: Tensor, epochs: Tensor) -> dict[str, Tensor]:
    return sweep.at_best(FitResult(Any, {"loss": history}, Any, epochs, epochs, epochs, False))  # pyright: ignore


CASES = [
    Case("sweep.random_search", lambda key: sweep.random_search(key, 6, **RANGES), keyed=True),
    Case(
        "sweep.uniform",
        lambda low, high, key: sweep.uniform(low, high)(key, 6),
        settings={"low": (-1.0, 0.0, 0.5), "high": (0.5, 1.0, 3.0)},
        keyed=True,
    ),
    Case(
        "sweep.log_uniform",
        lambda low, high, key: sweep.log_uniform(low, high)(key, 6),
        settings={"low": (0.1, 1e-4, 0.5), "high": (0.5, 1.0, 3.0)},
        keyed=True,
    ),
    Case("sweep.integers", lambda key: sweep.integers(-3, 50)(key, 9), keyed=True),
    Case("sweep.choice", lambda key: sweep.choice([0.1, 0.2, 0.4])(key, 9), keyed=True),
    Case(
        "sweep.paired_keys",
        lambda seeds, key: sweep.paired_keys(seeds, key=key),
        {"seeds": torch.tensor([0, 1, 2, 0])},
        keyed=True,
        fixed_dtype=True,
    ),
    Case("sweep.at_best", _at_best, {"history": drawn(200, 4, 3), "epochs": torch.tensor([2, 1, 4])}),
]

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "sweep.each": ("calls a function that trains", "test_sweep.py"),
    "sweep.grid": ("takes Python numbers", "test_sweep.py"),
    "sweep.table": ("gives Python numbers", "test_sweep.py"),
    "sweep.best": ("reads which is the best", "test_sweep.py"),
}

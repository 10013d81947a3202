"""Cases of `distributed`."""

from typing import Any

from torch import Tensor

from funcreg import distributed, losses, noise, optim, train
from tests.contract.case import CLASSES, LR, Case, drawn


def _loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
    logits = noise.dropout(batch.x, hparams["rate"], key=key) @ params["w"]
    return losses.cross_entropy(logits, batch.y), (state, {"accuracy": losses.accuracy(logits, batch.y)})


def _optimizer(hparams: Any) -> Any:
    return optim.sgd(hparams["lr"])


_STEP = train.make_step(distributed.data_parallel(_loss_fn, shards=2), _optimizer)


def _train_once(params: Any, x: Tensor, y: Tensor, lr: Any, rate: Any, key: Tensor) -> Any:
    hparams = {"lr": lr, "rate": rate}
    return _STEP(train.init(params, {}, _optimizer, key=key, hparams=hparams), train.Batch(x, y), hparams)


CASES = [
    Case(
        "distributed.data_parallel",
        _train_once,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "rate": (0.0, 0.3, 0.9)},
        keyed=True,
        fixed_dtype=True,  # metrics and counters have their own
    ),
]

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "distributed.fit": ("the Python loop", "test_distributed.py"),
    "distributed.process_group": ("connects processes", "test_distributed.py"),
    "distributed.rank": ("a number", "test_distributed.py"),
    "distributed.ranks": ("a number", "test_distributed.py"),
    "distributed.share": ("of integers", "test_distributed.py"),
}

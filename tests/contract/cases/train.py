"""Cases of `train`."""

from typing import Any

import torch
from torch import Tensor

from funcreg import averaging, constraints, losses, noise, optim, penalties, random, train, transforms
from tests.contract.case import CLASSES, LR, Case, drawn


def _loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
    logits = noise.dropout(batch.x, hparams["rate"], key=key) @ params["w"]
    return losses.cross_entropy(logits, batch.y), (state, {"accuracy": losses.accuracy(logits, batch.y)})


def _optimizer(hparams: Any) -> transforms.Transform:
    return optim.adamw(hparams["lr"], weight_decay=hparams["decay"])


def _descent(hparams: Any) -> transforms.Transform:
    return optim.sgd(hparams["lr"], weight_decay=hparams["decay"], momentum=0.9)


_STEP_ONCE = train.make_step(
    _loss_fn, _optimizer, penalties={"l2": lambda params, hparams: penalties.l2(params, hparams["decay"])}
)


def _train_once(params: Any, x: Tensor, y: Tensor, lr: Any, decay: Any, rate: Any, key: Tensor) -> Any:
    hparams = {"lr": lr, "decay": decay, "rate": rate}
    state = train.init(params, {}, _optimizer, key=key, hparams=hparams)
    return _STEP_ONCE(state, train.Batch(x, y), hparams)


def _mean_of(hparams: Any) -> averaging.Averaging[averaging.AverageState]:
    return averaging.ema(hparams["kept"])


_STEP_AVERAGED = train.make_step(_loss_fn, _descent, average=_mean_of)


def _train_averaged(params: Any, x: Tensor, y: Tensor, lr: Any, decay: Any, rate: Any, kept: Any, key: Tensor) -> Any:
    hparams = {"lr": lr, "decay": decay, "rate": rate, "kept": kept}
    state = train.init(params, {}, _descent, key=key, hparams=hparams, average=_mean_of)
    for _ in range(2):
        state, _ = _STEP_AVERAGED(state, train.Batch(x, y), hparams)
    return train.variables(state)


_SWAG = averaging.swag(rank=2)
_STEP_GATHERED = train.make_step(_loss_fn, _descent, average=_SWAG)


def _train_gathered(params: Any, x: Any, y: Any, scale: Any, key: Any, **hparams: Any) -> Any:
    first, second = random.split(key)
    state = train.init(params, {}, _descent, key=first, hparams=hparams, average=_SWAG)
    for _ in range(2):
        state, _ = _STEP_GATHERED(state, train.Batch(x, y), hparams)
    return train.sample_variables(state, key=second, scale=scale)


def _clipping(hparams: Any) -> transforms.Transform:
    return transforms.chain(transforms.clip_per_example(hparams["most"]), _descent(hparams))


def _capped(params: Any, hparams: Any) -> Any:
    return constraints.max_norm(params, hparams["most"])


_STEP_EACH = train.make_step(_loss_fn, _clipping, per_example=True, constraint=_capped)


def _train_each(params: Any, x: Tensor, y: Tensor, lr: Any, decay: Any, rate: Any, most: Any, key: Tensor) -> Any:
    hparams = {"lr": lr, "decay": decay, "rate": rate, "most": most}
    state = train.init(params, {}, _clipping, key=key, hparams=hparams)
    return _STEP_EACH(state, train.Batch(x, y), hparams)


_STEP_UNROLLED = train.make_step(_loss_fn, _descent)


def _unroll(params: Any, x: Tensor, y: Tensor, lr: Any, decay: Any, rate: Any, key: Tensor) -> Any:
    hparams = {"lr": lr, "decay": decay, "rate": rate}
    state = train.init(params, {}, _descent, key=key, hparams=hparams)
    return train.unroll(_STEP_UNROLLED, state, train.Batch(torch.stack((x, x.flip(0))), torch.stack((y, y))), hparams)


def _stop(values: Tensor, min_delta: Any) -> Any:
    stopping = train.early_stopping(2, min_delta)
    state = stopping.init()
    for value in values:
        state = stopping.update(state, value)
    return state


CASES = [
    Case(
        "train.make_step",
        _train_once,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "decay": (0.0, 0.1, 0.5), "rate": (0.0, 0.3, 0.9)},
        keyed=True,
        fixed_dtype=True,  # metrics and counters have their own
    ),
    Case(
        "train.make_step",
        _train_each,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "decay": (0.0, 0.1, 0.5), "rate": (0.0, 0.3, 0.9), "most": (0.1, 0.5, 9.0)},
        keyed=True,
        fixed_dtype=True,
        variant="per example, constrained",
    ),
    Case(
        "train.variables",
        _train_averaged,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "decay": (0.0, 0.1, 0.5), "rate": (0.0, 0.3, 0.9), "kept": (0.0, 0.5, 0.99)},
        keyed=True,
    ),
    Case(
        "train.sample_variables",
        _train_gathered,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "decay": (0.0, 0.1, 0.5), "rate": (0.0, 0.3, 0.9), "scale": (0.0, 0.5, 2.0)},
        keyed=True,
    ),
    Case(
        "train.unroll",
        _unroll,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "decay": (0.0, 0.1, 0.5), "rate": (0.0, 0.3, 0.9)},
        keyed=True,
        fixed_dtype=True,
    ),
    Case(
        "train.early_stopping",
        _stop,
        {"values": drawn(27, 4)},
        {"min_delta": (0.0, 0.1, 1.0)},
        fixed_dtype=True,
        has_slope=False,
    ),
]  # fmt: skip

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "train.init": ("called by the case of make_step", "test_train.py"),
    "train.fit": ("the Python loop", "test_train.py"),
    "train.csv_log": ("writes a file", "test_logs.py"),
    "train.tensorboard_log": ("writes a file", "test_logs.py"),
    "train.load": ("reads a file", "test_resume.py"),
    "train.loader": ("gives batches, one after the other", "test_sources.py"),
    "train.make_evaluate": ("a Python loop over a data set", "test_train.py"),
}

"""Bad arguments of `train`."""

from typing import Any

import funcreg as fr
from funcreg import averaging, optim, train
from tests.refusals import CLASSES, INTEGERS, KEY, KEYS, PARAMS, Refusal, X, bad

BATCH = train.Batch(X, CLASSES)


def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
    return (params["0.weight"] ** 2).sum(), (state, {})


def metric_fn(params: Any, state: Any, batch: Any) -> Any:
    return {"x": batch}


OPTIMIZER = optim.sgd(0.1)
TRAIN_STATE = train.init(PARAMS, {}, OPTIMIZER, key=KEY)
STEP = train.make_step(loss_fn, OPTIMIZER)
EPOCH = train.Epoch(1, TRAIN_STATE, {"loss": X.sum()}, {})
AVERAGED = train.init(PARAMS, {}, OPTIMIZER, key=KEY, average=averaging.ema(0.9))
GATHERED = train.init(PARAMS, {}, OPTIMIZER, key=KEY, average=averaging.swag())

REFUSALS: list[Refusal] = [
    ("train.loader", "dataset", lambda: train.loader(bad(3), 2, key=KEY)),
    ("train.loader", "batch_size", lambda: train.loader([1, 2], 0, key=KEY)),
    ("train.loader", "key", lambda: train.loader([1, 2], 1, key=bad(0))),
    ("train.loader", "workers", lambda: train.loader([1, 2], 1, key=KEY, workers=-1)),
    ("train.loader", "shuffle", lambda: train.loader([1, 2], 1, key=KEY, shuffle=bad("yes"))),
    ("train.loader", "drop_last", lambda: train.loader([1, 2], 1, key=KEY, drop_last=bad(None))),
    ("train.loader", "collate", lambda: train.loader([1, 2], 1, key=KEY, collate=bad(3))),
    ("train.loader", "num_workers", lambda: train.loader([1, 2], 1, key=KEY, num_workers=2)),
    ("train.csv_log", "path", lambda: train.csv_log(bad(3))),
    ("train.csv_log", "path", lambda: train.csv_log("no/such/folder/log.csv")(EPOCH)),
    ("train.csv_log", "epoch", lambda: train.csv_log("unwritten.csv")(bad({"loss": 1.0}))),
    ("train.tensorboard_log", "folder", lambda: train.tensorboard_log(bad(3))),
    ("train.load", "path", lambda: train.load("no-such-run")),
    (
        "train.fit",
        "checkpoint",
        lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, jit=False, checkpoint="/dev/null"),
    ),
    ("train.load", "path", lambda: train.load(bad(3))),
    ("train.fit", "data", lambda: train.fit(STEP, TRAIN_STATE, iter([]), key=KEY, epochs=1)),
    ("train.fit", "epoch_steps", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, epoch_steps=0)),
    ("train.fit", "mode", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, mode=bad("best"))),
    ("train.fit", "monitor", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, monitor=bad(3))),
    ("train.fit", "version", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, version=bad(0.5))),
    ("train.make_evaluate", "data", lambda: train.make_evaluate(metric_fn)(PARAMS, {}, iter([]))),
    ("train.make_step", "loss_fn", lambda: train.make_step(bad(3), OPTIMIZER)),
    ("train.make_step", "optimizer", lambda: train.make_step(loss_fn, bad(0.1))),
    (
        "train.make_step",
        "penalties",
        lambda: train.make_step(loss_fn, OPTIMIZER, penalties={"loss": lambda params, hparams: X.sum()}),
    ),
    ("train.make_step", "constraint", lambda: train.make_step(loss_fn, OPTIMIZER, constraint=bad(0.5))),
    (
        "train.make_step",
        "constraint",
        lambda: train.make_step(loss_fn, OPTIMIZER, constraint=lambda params, hparams: X)(TRAIN_STATE, BATCH),
    ),
    ("train.make_step", "per_example", lambda: train.make_step(loss_fn, OPTIMIZER, per_example=bad("yes"))),
    (
        "train.make_step",
        "grads's 0.bias",
        lambda: train.make_step(loss_fn, OPTIMIZER, per_example=True)(TRAIN_STATE, BATCH),
    ),
    ("train.make_step", "average", lambda: train.make_step(loss_fn, OPTIMIZER, average=bad(0.999))),
    (
        "train.make_step",
        "average",
        lambda: train.make_step(loss_fn, OPTIMIZER, average=bad(lambda hparams: 0.9))(AVERAGED, BATCH),
    ),
    (
        "train.make_step",
        "train_state",
        lambda: train.make_step(loss_fn, OPTIMIZER, average=averaging.ema(0.9))(TRAIN_STATE, BATCH),
    ),
    ("train.make_step", "train_state", lambda: STEP(AVERAGED, BATCH)),
    ("train.init", "average", lambda: train.init(PARAMS, {}, OPTIMIZER, key=KEY, average=bad(0.999))),
    ("train.variables", "train_state", lambda: train.variables(bad(PARAMS))),
    ("train.sample_variables", "train_state", lambda: train.sample_variables(bad(PARAMS), key=KEY)),
    ("train.sample_variables", "train_state", lambda: train.sample_variables(AVERAGED, key=KEY)),
    ("train.sample_variables", "train_state", lambda: train.sample_variables(TRAIN_STATE, key=KEY)),
    ("train.sample_variables", "state", lambda: train.sample_variables(GATHERED, key=KEY)),
    ("train.sample_variables", "key", lambda: train.sample_variables(GATHERED, key=KEYS)),
    (
        "train.fit",
        "key",
        lambda: train.fit(
            STEP, fr.tree.stack([TRAIN_STATE, TRAIN_STATE]), BATCH, key=KEYS[:2], epochs=1, members=2, batch_size=2
        ),
    ),
    ("train.unroll", "step", lambda: train.unroll(bad(None), TRAIN_STATE, BATCH)),
    ("train.unroll", "batches's 1", lambda: train.unroll(STEP, TRAIN_STATE, (X, X[:2]))),
    ("train.unroll", "batches", lambda: train.unroll(STEP, TRAIN_STATE, {})),
    ("train.init", "params", lambda: train.init({}, {}, OPTIMIZER, key=KEY)),
    ("train.init", "params's n", lambda: train.init({"n": INTEGERS}, {}, OPTIMIZER, key=KEY)),
    ("train.init", "key", lambda: train.init(PARAMS, {}, OPTIMIZER, key=bad(0))),
    ("train.init", "members", lambda: train.init(PARAMS, {}, OPTIMIZER, key=KEY, members=0)),
    (
        "train.make_step",
        "loss_fn",
        lambda: train.make_step(lambda *args, **kwargs: bad(3.0), OPTIMIZER)(TRAIN_STATE, BATCH),
    ),
    ("train.make_evaluate", "metric_fn", lambda: train.make_evaluate(bad(None))),
    ("train.make_evaluate", "members", lambda: train.make_evaluate(metric_fn, members=0)),
    ("train.make_evaluate", "chunk_size", lambda: train.make_evaluate(metric_fn, members=3, chunk_size=0)),
    ("train.make_evaluate", "chunk_size", lambda: train.make_evaluate(metric_fn, chunk_size=2)),
    (
        "train.make_evaluate",
        "metric_fn's 'mean'",
        lambda: train.make_evaluate(lambda params, state, batch: {"mean": X.sum()})({}, {}, X),
    ),
    ("train.early_stopping", "patience", lambda: train.early_stopping(0)),
    ("train.early_stopping", "min_delta", lambda: train.early_stopping(3, -0.1)),
    ("train.early_stopping", "mode", lambda: train.early_stopping(3, mode="best")),
    ("train.fit", "step", lambda: train.fit(bad(None), TRAIN_STATE, BATCH, key=KEY, epochs=1, batch_size=2)),
    ("train.fit", "train_state", lambda: train.fit(STEP, bad(PARAMS), BATCH, key=KEY, epochs=1, batch_size=2)),
    ("train.fit", "key", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=bad(1), epochs=1, batch_size=2)),
    ("train.fit", "epochs", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=0, batch_size=2)),
    ("train.fit", "batch_size", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, batch_size=0)),
    ("train.fit", "on_epoch", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, on_epoch=bad(1))),
    (
        "train.fit",
        "batches",
        lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, batch_size=2, batches="mine"),
    ),
    ("train.fit", "chunk_size", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, chunk_size=2)),
    ("train.fit", "chunk_size", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, chunk_size=bad(None))),
    ("train.fit", "chunk_size", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, chunk_size=bad("all"))),
    (
        "train.fit",
        "chunk_size",
        lambda: train.fit(
            STEP, fr.tree.stack([TRAIN_STATE, TRAIN_STATE]), BATCH, key=KEY, epochs=1, members=2, chunk_size=0
        ),
    ),
]

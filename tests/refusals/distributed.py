"""Bad arguments of `distributed` on one process; what only several can get wrong is in test_distributed.py."""

from typing import Any

from funcreg import distributed, train
from tests.refusals import CLASSES, KEY, PARAMS, Refusal, X, bad
from tests.refusals.train import OPTIMIZER, STEP, TRAIN_STATE, loss_fn

BATCH = train.Batch(X, CLASSES)


def call(loss_fn: Any, shards: int) -> Any:
    return distributed.data_parallel(loss_fn, shards=shards)(PARAMS, {}, BATCH, key=KEY, hparams=None)


def join(*arguments: Any, **settings: Any) -> Any:
    with distributed.process_group(*arguments, **settings) as device:
        return device


REFUSALS: list[Refusal] = [
    ("distributed.data_parallel", "loss_fn", lambda: distributed.data_parallel(bad(3))),
    ("distributed.data_parallel", "shards", lambda: distributed.data_parallel(loss_fn, shards=0)),
    ("distributed.data_parallel", "shards", lambda: distributed.data_parallel(loss_fn, shards=bad(2.0))),
    ("distributed.data_parallel", "batch", lambda: call(loss_fn, 3)),
    ("distributed.data_parallel", "loss_fn", lambda: call(lambda *args, **kwargs: X.sum(), 2)),
    ("distributed.data_parallel", "loss_fn", lambda: call(lambda *args, **kwargs: (X, ({}, {})), 2)),
    ("distributed.data_parallel", "loss_fn", lambda: call(lambda *args, **kwargs: (X.sum(), {}), 2)),
    ("distributed.process_group", "device", lambda: join("gpu")),
    ("distributed.process_group", "timeout", lambda: join("cpu", timeout=0.0)),
    ("distributed.process_group", "timeout", lambda: join("cpu", timeout=bad("1 min"))),
    ("distributed.share", "members", lambda: distributed.share(0)),
    ("distributed.share", "members", lambda: distributed.share(bad(2.5))),
    ("distributed.fit", "key", lambda: distributed.fit(STEP, TRAIN_STATE, BATCH, key=bad(0), epochs=1)),
    ("distributed.fit", "step", lambda: distributed.fit(bad(OPTIMIZER), TRAIN_STATE, BATCH, key=KEY, epochs=1)),
]

# name: why it refuses nothing
WITHOUT_BAD_INPUT = {"distributed.rank": "takes a group of torch's", "distributed.ranks": "takes a group of torch's"}

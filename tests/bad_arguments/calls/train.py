"""Good calls of `train`."""

import functools
from typing import Any

import torch

from funcreg import averaging, optim, penalties, train, tree
from tests.bad_arguments.call import KEY, PARAMS, PATH, Call, X, call


def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
    loss = ((batch @ params["weight"].T + params["bias"]) ** 2).mean()
    return loss, (state, {"error": loss.detach()})


def optimizer(hparams: Any) -> Any:
    return optim.sgd(hparams["lr"], momentum=0.9)


def metric_fn(params: Any, state: Any, batch: Any) -> Any:
    return {"error": ((batch @ params["weight"].T) ** 2).mean(-1)}


HPARAMS = {"lr": 0.1}


@functools.wraps(train.make_step)
def one_step(**settings: Any) -> Any:
    """The metrics of a step that is made of some settings."""
    average = settings["average"]
    begun = train.init(PARAMS, {}, optimizer, key=KEY, hparams=HPARAMS, average=average)
    return train.make_step(**settings)(begun, X, HPARAMS)[1]


@functools.wraps(train.make_evaluate)
def evaluated(**settings: Any) -> Any:
    """The metrics of two members, by what is made of some settings."""
    return train.make_evaluate(**settings)(tree.stack([PARAMS, PARAMS]), {}, X)


@functools.wraps(train.early_stopping)
def stopped(**settings: Any) -> Any:
    """What follows a value, by what is made of some settings."""
    stopping = train.early_stopping(**settings)
    return stopping.update(stopping.init(), torch.tensor(0.5))


STEP = train.make_step(loss_fn, optimizer)
STATE = train.init(PARAMS, {}, optimizer, key=KEY, hparams=HPARAMS)
SWAG = averaging.swag(rank=2)
BEGUN = train.init(PARAMS, {}, optimizer, key=KEY, hparams=HPARAMS, average=SWAG)
GATHERED = BEGUN._replace(average=SWAG.update(SWAG.update(BEGUN.average, {"params": PARAMS}), {"params": PARAMS}))
STOPPING = train.early_stopping(2)


def evaluate(params: Any, state: Any) -> Any:
    return {"val_loss": (params["weight"] ** 2).sum()}


def on_epoch(epoch: train.Epoch) -> None:
    pass


RESULT = PATH.with_name("fitted")
FITTED = train.fit(STEP, STATE, X, key=KEY, epochs=1, batch_size=2, hparams=HPARAMS, jit=False, checkpoint=RESULT)

CALLS: list[Call] = [
    call("train.loader", lambda dataset, batch_size, key, workers, shuffle, drop_last, collate: next(iter(train.loader(
            dataset, batch_size, key=key, workers=workers, shuffle=shuffle, drop_last=drop_last, collate=collate))),
         dataset=[0, 1, 2], batch_size=2, key=KEY, workers=0, shuffle=True, drop_last=False,
         collate=lambda samples: torch.tensor(samples)),
    call("train.variables", train.variables, train_state=STATE),
    call("train.sample_variables", train.sample_variables, train_state=GATHERED, key=KEY, scale=0.5),
    call("train.csv_log", train.csv_log, path=PATH.with_name("log.csv")),
    call("train.tensorboard_log", train.tensorboard_log, folder=PATH.with_name("board")),
    call("train.load", train.load, path=RESULT),
    call("train.init", train.init, params=PARAMS, state={}, optimizer=optimizer, key=KEY, hparams=HPARAMS,
         members=None, average=None),
    call("train.make_step", one_step, loss_fn=loss_fn, optimizer=optimizer,
         penalties={"l2": lambda params, hparams: penalties.l2(params, 0.1)},
         constraint=lambda params, hparams: params, per_example=False, average=None),
    call("train.make_step()", STEP, train_state=STATE, batch=X, hparams=HPARAMS),
    call("train.make_evaluate", evaluated, metric_fn=metric_fn, members=2, chunk_size=1, jit=False),
    call("train.make_evaluate()", train.make_evaluate(metric_fn), params=PARAMS, state={}, data=X, batch_size=2),
    call("train.early_stopping", stopped, patience=2, min_delta=0.1, mode="min"),
    call("train.early_stopping().init", STOPPING.init, members=2, device=torch.device("cpu")),
    call("train.early_stopping().update", STOPPING.update, state=STOPPING.init(), value=torch.tensor(0.5)),
    call("train.unroll", train.unroll, step=STEP, train_state=STATE, batches=torch.stack((X, X)), hparams=HPARAMS),
    call("train.fit", train.fit, step=STEP, train_state=STATE, data=X, key=KEY, epochs=1, batch_size=2,
         hparams=HPARAMS, members=None, batches="shared", chunk_size="auto", jit=False, evaluate=evaluate,
         early_stopping=STOPPING, monitor="val_loss", checkpoint=None, checkpoint_every=1, on_epoch=on_epoch,
         progress=False, processes=None, mode="min", version="1", epoch_steps=None),
]  # fmt: skip

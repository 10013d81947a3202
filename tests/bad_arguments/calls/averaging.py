"""Good calls of `averaging`."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

import funcreg as fr
from funcreg import averaging
from tests.bad_arguments.call import GRADS, KEY, PARAMS, Call, X, call

MODEL = fr.from_module(lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)))
MODEL_PARAMS, MODEL_STATE = MODEL.init(KEY)
EMA, SWA, SWAG = averaging.ema(0.9, debias=True), averaging.swa(), averaging.swag(rank=2)
MOVED = SWAG.update(SWAG.update(SWAG.init(PARAMS), GRADS), PARAMS)


def used(make: Callable[..., averaging.Averaging[Any]]) -> Callable[..., Any]:
    """The average of two updates that is made of some settings."""

    @functools.wraps(make)
    def average(**settings: Any) -> Any:
        averages = make(**settings)
        state = averages.update(averages.init(PARAMS), GRADS)
        return averages.update(state, PARAMS).params

    return average


CALLS: list[Call] = [
    call("averaging.ema", used(averaging.ema), decay=0.9, debias=True),
    call("averaging.ema().init", EMA.init, params=PARAMS),
    call("averaging.ema().update", EMA.update, state=EMA.init(PARAMS), params=GRADS),
    call("averaging.swa", used(averaging.swa), start=1, every=1),
    call("averaging.swa().init", SWA.init, params=PARAMS),
    call("averaging.swa().update", SWA.update, state=SWA.init(PARAMS), params=GRADS),
    call("averaging.swag", used(averaging.swag), start=1, every=1, rank=3),
    call("averaging.swag().init", SWAG.init, params=PARAMS),
    call("averaging.swag().update", SWAG.update, state=MOVED, params=GRADS),
    call("averaging.sample_swag", averaging.sample_swag, state=MOVED, key=KEY, scale=0.5),
    call("averaging.refresh_statistics", averaging.refresh_statistics, model=MODEL, params=MODEL_PARAMS,
         state=MODEL_STATE, batches=[X, X + 1], key=KEY),
]  # fmt: skip

"""Good calls of `averaging`."""

from torch import nn

import funcreg as fr
from funcreg import averaging
from tests.bad_arguments.call import GRADS, KEY, PARAMS, Call, X, call

MODEL = fr.from_module(lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)))
MODEL_PARAMS, MODEL_STATE = MODEL.init(KEY)
EMA, SWA = averaging.ema(0.9, debias=True), averaging.swa()

CALLS: list[Call] = [
    call("averaging.ema", averaging.ema, decay=0.9, debias=True),
    call("averaging.ema().init", EMA.init, params=PARAMS),
    call("averaging.ema().update", EMA.update, state=EMA.init(PARAMS), params=GRADS),
    call("averaging.swa", averaging.swa),
    call("averaging.swa().init", SWA.init, params=PARAMS),
    call("averaging.swa().update", SWA.update, state=SWA.init(PARAMS), params=GRADS),
    call("averaging.refresh_statistics", averaging.refresh_statistics, model=MODEL, params=MODEL_PARAMS,
         state=MODEL_STATE, batches=[X, X + 1], key=KEY),
]  # fmt: skip

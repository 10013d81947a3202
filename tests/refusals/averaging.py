"""Bad arguments of `averaging`."""

import torch
from torch import nn

import funcreg as fr
from funcreg import averaging
from tests.refusals import INTEGERS, KEY, KEYS, PARAMS, Refusal, X, bad

MODEL = fr.from_module(lambda: nn.BatchNorm1d(3))
OWN, STATE = MODEL.init(KEY)

SWAG = averaging.swag().init(PARAMS)._replace(count=torch.tensor(2))

REFUSALS: list[Refusal] = [
    ("averaging.ema", "decay", lambda: averaging.ema(1.5)),
    ("averaging.ema", "decay", lambda: averaging.ema(torch.ones(2))),
    ("averaging.ema", "debias", lambda: averaging.ema(0.9, debias=bad(None))),
    ("averaging.ema", "params's n", lambda: averaging.ema(0.9).init({"n": INTEGERS})),
    ("averaging.ema", "params", lambda: averaging.ema(0.9).update(averaging.ema(0.9).init(PARAMS), {"other": X})),
    ("averaging.swa", "start", lambda: averaging.swa(start=-1)),
    ("averaging.swa", "every", lambda: averaging.swa(every=0)),
    ("averaging.swa", "params", lambda: averaging.swa().init(INTEGERS)),
    ("averaging.swa", "params", lambda: averaging.swa().update(averaging.swa().init(PARAMS), {"other": X})),
    ("averaging.swag", "start", lambda: averaging.swag(start=-1)),
    ("averaging.swag", "every", lambda: averaging.swag(every=0)),
    ("averaging.swag", "rank", lambda: averaging.swag(rank=1)),
    ("averaging.swag", "params", lambda: averaging.swag().init(INTEGERS)),
    ("averaging.swag", "params", lambda: averaging.swag().update(averaging.swag().init(PARAMS), {"other": X})),
    ("averaging.swag", "state", lambda: averaging.swag().update(bad(averaging.swa().init(PARAMS)), PARAMS)),
    ("averaging.swa", "state", lambda: averaging.swa().update(bad(averaging.swag().init(PARAMS)), PARAMS)),
    (
        "averaging.swag",
        "state.deviations's 0.bias",
        lambda: averaging.swag().update(averaging.swag(rank=2).init(PARAMS), PARAMS),
    ),
    ("averaging.sample_swag", "state", lambda: averaging.sample_swag(bad(PARAMS), key=KEY)),
    ("averaging.sample_swag", "state", lambda: averaging.sample_swag(bad(averaging.ema(0.9).init(PARAMS)), key=KEY)),
    ("averaging.sample_swag", "state", lambda: averaging.sample_swag(averaging.swag().init(PARAMS), key=KEY)),
    ("averaging.sample_swag", "key", lambda: averaging.sample_swag(SWAG, key=KEYS)),
    ("averaging.sample_swag", "scale", lambda: averaging.sample_swag(SWAG, key=KEY, scale=-1.0)),
    ("averaging.refresh_statistics", "key", lambda: averaging.refresh_statistics(MODEL, OWN, STATE, [X], key=KEYS)),
    ("averaging.refresh_statistics", "batches", lambda: averaging.refresh_statistics(MODEL, OWN, STATE, [], key=KEY)),
    ("averaging.refresh_statistics", "state", lambda: averaging.refresh_statistics(MODEL, OWN, {}, [X], key=KEY)),
    (
        "averaging.refresh_statistics",
        "params",
        lambda: averaging.refresh_statistics(MODEL, {}, STATE, [X], key=KEY),
    ),
]

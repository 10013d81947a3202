"""Bad arguments of `sharpness`."""

from typing import Any

import torch

from funcreg import sharpness
from tests.refusals import KEY, PARAMS, Refusal, bad


def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
    return (params["0.weight"] ** 2).sum(), (state, {})


def call(loss_fn: Any, radius: Any = 0.05) -> Any:
    return sharpness.sam(loss_fn, radius)(PARAMS, {}, None, key=KEY, hparams=None)


REFUSALS: list[Refusal] = [
    ("sharpness.sam", "loss_fn", lambda: sharpness.sam(bad(0.05))),
    ("sharpness.sam", "radius", lambda: sharpness.sam(loss_fn, -0.05)),
    ("sharpness.sam", "radius", lambda: sharpness.sam(loss_fn, torch.ones(3))),
    ("sharpness.sam", "radius", lambda: sharpness.sam(loss_fn, bad("0.05"))),
    ("sharpness.sam", "radius", lambda: call(loss_fn, lambda hparams: -1.0)),
    ("sharpness.sam", "radius", lambda: call(loss_fn, lambda hparams: torch.ones(2))),
    ("sharpness.sam", "adaptive", lambda: sharpness.sam(loss_fn, adaptive=bad("yes"))),
    ("sharpness.sam", "loss_fn", lambda: call(lambda *args, **kwargs: PARAMS["0.weight"].sum())),
    ("sharpness.sam", "loss_fn", lambda: call(lambda *args, **kwargs: (PARAMS["0.weight"], ({}, {})))),
]

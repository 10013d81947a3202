"""Bad arguments of `sharpness`."""

from typing import Any

import torch

from funcreg import sharpness
from tests.refusals import KEY, PARAMS, Refusal, X, bad


def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
    return (params["0.weight"] ** 2).sum(), (state, {})


def call(loss_fn: Any, radius: Any = 0.05) -> Any:
    return sharpness.sam(loss_fn, radius)(PARAMS, {}, None, key=KEY, hparams=None)


def total(params: Any) -> Any:
    return (params["0.weight"] ** 2).sum()


def eigenvalue(function: Any, params: Any = PARAMS, steps: int = 2) -> Any:
    return sharpness.hessian_eigenvalue(function, params, key=KEY, steps=steps)


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
    ("sharpness.hessian_eigenvalue", "function", lambda: eigenvalue(bad(0.5))),
    ("sharpness.hessian_eigenvalue", "function", lambda: eigenvalue(lambda params: params["0.weight"])),
    ("sharpness.hessian_eigenvalue", "function", lambda: eigenvalue(lambda params: (params["0.weight"].sum(), {}))),
    ("sharpness.hessian_eigenvalue", "params's 0.weight", lambda: eigenvalue(total, {"0.weight": X.long()})),
    ("sharpness.hessian_eigenvalue", "params", lambda: eigenvalue(total, {})),
    ("sharpness.hessian_eigenvalue", "steps", lambda: eigenvalue(total, steps=0)),
    ("sharpness.hessian_eigenvalue", "key", lambda: sharpness.hessian_eigenvalue(total, PARAMS, key=bad(0))),
]

"""Good calls of `sharpness`."""

import functools
from typing import Any

import torch

from funcreg import sharpness
from tests.bad_arguments.call import KEY, PARAMS, Call, X, call
from tests.bad_arguments.calls.train import loss_fn


@functools.wraps(sharpness.sam)
def slope(**settings: Any) -> Any:
    """The gradient of the sharp loss that is made of some settings."""
    sharp = sharpness.sam(**settings)
    return torch.func.grad(lambda params: sharp(params, {}, X, key=KEY, hparams=None)[0])(PARAMS)


CALLS: list[Call] = [
    call("sharpness.sam", slope, loss_fn=loss_fn, radius=0.05, adaptive=True),
    call("sharpness.sam()", sharpness.sam(loss_fn), params=PARAMS, state={}, batch=X, key=KEY, hparams=None),
    call("sharpness.hessian_eigenvalue", sharpness.hessian_eigenvalue,
         function=lambda params: (params["weight"] ** 2).sum() + params["bias"].sum(), params=PARAMS, key=KEY,
         steps=3),
]  # fmt: skip

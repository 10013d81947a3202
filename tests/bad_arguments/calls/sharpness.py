"""Good calls of `sharpness`."""

from funcreg import sharpness
from tests.bad_arguments.call import KEY, PARAMS, Call, X, call
from tests.bad_arguments.calls.train import loss_fn

CALLS: list[Call] = [
    call("sharpness.sam", sharpness.sam, loss_fn=loss_fn, radius=0.05, adaptive=True),
    call("sharpness.sam()", sharpness.sam(loss_fn), params=PARAMS, state={}, batch=X, key=KEY, hparams=None),
    call("sharpness.hessian_eigenvalue", sharpness.hessian_eigenvalue,
         function=lambda params: (params["weight"] ** 2).sum() + params["bias"].sum(), params=PARAMS, key=KEY,
         steps=3),
]  # fmt: skip

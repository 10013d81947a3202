"""Cases of `sharpness`."""

from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from funcreg import losses, noise, sharpness, train
from tests.contract.case import CLASSES, Case, drawn


def _loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
    logits = noise.dropout(batch.x, 0.5, key=key) @ params["w"] + params["b"]
    return losses.cross_entropy(logits, batch.y), (state, {})


def _slope(params: Any, x: Tensor, y: Tensor, radius: Any, key: Tensor, adaptive: bool) -> Any:
    sharp = sharpness.sam(_loss_fn, radius, adaptive=adaptive)
    return grad(lambda params: sharp(params, {}, train.Batch(x, y), key=key, hparams=None)[0])(params)


def _eigenvalue(params: Any, x: Tensor, y: Tensor, key: Tensor) -> Tensor:
    def loss(params: Any) -> Tensor:
        return losses.cross_entropy(torch.tanh(x @ params["w"]) + params["b"], y)

    return sharpness.hessian_eigenvalue(loss, params, key=key, steps=2)


CASES = [
    Case(
        "sharpness.sam",
        lambda params, x, y, radius, key, adaptive=adaptive: _slope(params, x, y, radius, key, adaptive),
        {"params": {"w": drawn(71, 3, 4), "b": drawn(72, 4)}, "x": drawn(73, 6, 3), "y": CLASSES},
        {"radius": (0.0, 0.1, 1.0)},
        keyed=True,
        variant="adaptive" if adaptive else "",
        within="" if adaptive else "sharpness.sam[adaptive]",
    )
    for adaptive in (False, True)
]
CASES.append(
    Case(
        "sharpness.hessian_eigenvalue",
        _eigenvalue,
        {"params": {"w": drawn(74, 3, 4), "b": drawn(75, 4)}, "x": drawn(76, 6, 3), "y": CLASSES},
        keyed=True,
        at_least_float32=True,
    )
)

"""Cases of `adversarial`."""

from typing import Any

import torch
from torch import Tensor

from funcreg import adversarial, losses
from tests.contract.case import CLASSES, Case, drawn

INPUTS = {"x": torch.sigmoid(drawn(40, 6, 5)) / 2, "weight": drawn(41, 5, 4)}
EPSILON = {"epsilon": (0.0, 0.1, 0.3)}


def _loss_fn(weight: Tensor) -> Any:
    return lambda x: losses.cross_entropy(torch.tanh(x @ weight), CLASSES.to(x.device), reduction="none")


CASES = [
    Case(
        "adversarial.fgsm",
        lambda x, weight, epsilon, high: adversarial.fgsm(_loss_fn(weight), x, epsilon, high=high),
        INPUTS,
        {**EPSILON, "high": (0.6, 0.5, 1.0)},
    ),
    *(
        Case(
            "adversarial.pgd",
            lambda x, weight, epsilon, step_size, key, norm=norm: adversarial.pgd(
                _loss_fn(weight), x, epsilon, key=key, steps=2, step_size=step_size, norm=norm
            ),
            INPUTS,
            {**EPSILON, "step_size": (0.1, 0.01, 0.0)},
            keyed=True,
            variant=norm,
        )
        for norm in ("linf", "l2")
    ),
    Case(
        "adversarial.vat",
        lambda x, weight, epsilon, key: adversarial.vat(lambda x: torch.tanh(x @ weight), x, epsilon, key=key, steps=2),
        INPUTS,
        EPSILON,
        keyed=True,
        at_least_float32=True,
    ),
]

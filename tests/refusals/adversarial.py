"""Bad arguments of `adversarial`."""

import torch
from torch import Tensor

from funcreg import adversarial
from tests.refusals import INTEGERS, KEY, KEYS, Refusal, X, bad


def _losses(x: Tensor) -> Tensor:
    return x.sum(dim=1)


REFUSALS: list[Refusal] = [
    ("adversarial.fgsm", "loss_fn", lambda: adversarial.fgsm(bad(X), X, 0.1)),
    ("adversarial.fgsm", "loss_fn", lambda: adversarial.fgsm(lambda x: x, X, 0.1)),
    ("adversarial.fgsm", "loss_fn", lambda: adversarial.fgsm(bad(lambda x: (x.sum(), {})), X, 0.1)),
    ("adversarial.fgsm", "x", lambda: adversarial.fgsm(_losses, INTEGERS, 0.1)),
    ("adversarial.fgsm", "x", lambda: adversarial.fgsm(_losses, torch.tensor(1.0), 0.1)),
    ("adversarial.fgsm", "x", lambda: adversarial.fgsm(_losses, -2 * X, 0.1)),
    ("adversarial.fgsm", "x", lambda: adversarial.fgsm(_losses, X, 0.1, high=torch.tensor(0.5))),
    ("adversarial.pgd", "x", lambda: adversarial.pgd(_losses, X, 0.1, low=1.5, high=None, key=KEY)),
    ("adversarial.fgsm", "epsilon", lambda: adversarial.fgsm(_losses, X, -0.1)),
    ("adversarial.fgsm", "epsilon", lambda: adversarial.fgsm(_losses, X, torch.ones(3))),
    ("adversarial.fgsm", "low", lambda: adversarial.fgsm(_losses, X, 0.1, low=2.0)),
    ("adversarial.fgsm", "high", lambda: adversarial.fgsm(_losses, X, 0.1, high=bad("1"))),
    ("adversarial.fgsm", "targeted", lambda: adversarial.fgsm(_losses, X, 0.1, targeted=bad(None))),
    ("adversarial.pgd", "loss_fn", lambda: adversarial.pgd(lambda x: x[:2].sum(dim=1), X, 0.1, key=KEY)),
    ("adversarial.pgd", "x", lambda: adversarial.pgd(_losses, bad([1.0]), 0.1, key=KEY)),
    ("adversarial.pgd", "epsilon", lambda: adversarial.pgd(_losses, X, bad(None), key=KEY)),
    ("adversarial.pgd", "key", lambda: adversarial.pgd(_losses, X, 0.1, key=KEYS)),
    ("adversarial.pgd", "key", lambda: adversarial.pgd(_losses, X.to("meta"), 0.1, key=KEY)),
    ("adversarial.pgd", "steps", lambda: adversarial.pgd(_losses, X, 0.1, key=KEY, steps=0)),
    ("adversarial.pgd", "step_size", lambda: adversarial.pgd(_losses, X, 0.1, key=KEY, step_size=-0.1)),
    ("adversarial.pgd", "step_size", lambda: adversarial.pgd(_losses, X, 0.1, key=KEY, step_size=torch.ones(2))),
    ("adversarial.pgd", "norm", lambda: adversarial.pgd(_losses, X, 0.1, key=KEY, norm="l1")),
    ("adversarial.pgd", "low", lambda: adversarial.pgd(_losses, X, 0.1, key=KEY, low=torch.ones(2))),
    ("adversarial.vat", "function", lambda: adversarial.vat(bad(X), X, 0.1, key=KEY)),
    ("adversarial.vat", "function", lambda: adversarial.vat(_losses, X, 0.1, key=KEY)),
    ("adversarial.vat", "function", lambda: adversarial.vat(lambda x: x[:, :1], X, 0.1, key=KEY)),
    ("adversarial.vat", "function", lambda: adversarial.vat(lambda x: x[:2], X, 0.1, key=KEY)),
    ("adversarial.vat", "function", lambda: adversarial.vat(bad(lambda x: (x, {})), X, 0.1, key=KEY)),
    ("adversarial.vat", "function", lambda: adversarial.vat(lambda x: x > 0, X, 0.1, key=KEY)),
    ("adversarial.vat", "x", lambda: adversarial.vat(lambda x: x, INTEGERS, 0.1, key=KEY)),
    ("adversarial.vat", "x", lambda: adversarial.vat(lambda x: x, torch.tensor(1.0), 0.1, key=KEY)),
    ("adversarial.vat", "epsilon", lambda: adversarial.vat(lambda x: x, X, -0.1, key=KEY)),
    ("adversarial.vat", "epsilon", lambda: adversarial.vat(lambda x: x, X, torch.ones(3), key=KEY)),
    ("adversarial.vat", "key", lambda: adversarial.vat(lambda x: x, X, 0.1, key=KEYS)),
    ("adversarial.vat", "key", lambda: adversarial.vat(lambda x: x, X.to("meta"), 0.1, key=KEY)),
    ("adversarial.vat", "steps", lambda: adversarial.vat(lambda x: x, X, 0.1, key=KEY, steps=0)),
    ("adversarial.vat", "reduction", lambda: adversarial.vat(lambda x: x, X, 0.1, key=KEY, reduction="max")),
    ("adversarial.vat", "reduction", lambda: adversarial.vat(lambda x: x, X[:0], 0.1, key=KEY)),
]

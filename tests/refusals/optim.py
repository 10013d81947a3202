"""Bad arguments of `optim`."""

import torch

from funcreg import optim
from tests.refusals import PARAMS, Refusal, X, bad

REFUSALS: list[Refusal] = [
    ("optim.sgd", "lr", lambda: optim.sgd(-0.1)),
    ("optim.sgd", "momentum", lambda: optim.sgd(0.1, momentum=2.0)),
    ("optim.sgd", "momentum", lambda: optim.sgd(0.1, nesterov=True)),
    ("optim.sgd", "dampening", lambda: optim.sgd(0.1, momentum=0.9, dampening=0.5, nesterov=True)),
    ("optim.adam", "weight_decay", lambda: optim.adam(0.1, weight_decay=-1.0)),
    ("optim.adamw", "b2", lambda: optim.adamw(0.1, b2=bad("0.9"))),
    ("optim.rmsprop", "lr", lambda: optim.rmsprop(-0.1)),
    ("optim.rmsprop", "decay", lambda: optim.rmsprop(0.1, decay=1.0)),
    ("optim.rmsprop", "momentum", lambda: optim.rmsprop(0.1, momentum=-0.5)),
    ("optim.rmsprop", "weight_decay", lambda: optim.rmsprop(0.1, weight_decay=torch.ones(2))),
    ("optim.rmsprop", "centered", lambda: optim.rmsprop(0.1, centered=bad("yes"))),
    ("optim.rmsprop", "mask", lambda: optim.rmsprop(0.1, mask=bad("weight"))),
    ("optim.apply_updates", "tree", lambda: optim.apply_updates(PARAMS, {"other": X})),
    ("optim.constant", "value", lambda: optim.constant(-1.0)),
    ("optim.step", "every", lambda: optim.step(0.1, every=0)),
    ("optim.exponential", "factor", lambda: optim.exponential(0.1, factor=-1.0)),
    ("optim.cosine", "steps", lambda: optim.cosine(0.1, steps=0)),
    ("optim.warmup_cosine", "steps", lambda: optim.warmup_cosine(0.1, warmup=10, steps=10)),
]

"""Bad arguments of `penalties`."""

import math

import torch

from funcreg import penalties
from tests.refusals import INTEGERS, PARAMS, Refusal, bad

REFUSALS: list[Refusal] = [
    ("penalties.l1", "strength", lambda: penalties.l1(PARAMS, -1.0)),
    ("penalties.l2", "strength", lambda: penalties.l2(PARAMS, torch.ones(3))),
    ("penalties.l2", "strength", lambda: penalties.l2(PARAMS, bad("0.1"))),
    ("penalties.l2", "n", lambda: penalties.l2({"n": INTEGERS}, 0.1)),
    ("penalties.l1", "mask", lambda: penalties.l1(PARAMS, 0.1, mask=bad(True))),
    ("penalties.l2", "mask", lambda: penalties.l2(PARAMS, 0.1, mask=lambda name, leaf: False)),
    ("penalties.elastic_net", "l1_strength", lambda: penalties.elastic_net(PARAMS, -0.1, 0.1)),
    ("penalties.elastic_net", "l2_strength", lambda: penalties.elastic_net(PARAMS, 0.1, math.nan)),
]

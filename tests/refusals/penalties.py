"""Bad arguments of `penalties`."""

import math

import torch

from funcreg import penalties
from tests.refusals import INTEGERS, KEY, KEYS, PARAMS, Refusal, X, bad

WEIGHT = {"0.weight": torch.ones(2, 3)}

REFUSALS: list[Refusal] = [
    ("penalties.l1", "strength", lambda: penalties.l1(PARAMS, -1.0)),
    ("penalties.l2", "strength", lambda: penalties.l2(PARAMS, torch.ones(3))),
    ("penalties.l2", "strength", lambda: penalties.l2(PARAMS, bad("0.1"))),
    ("penalties.l2", "params's n", lambda: penalties.l2({"n": INTEGERS}, 0.1)),
    ("penalties.l1", "mask", lambda: penalties.l1(PARAMS, 0.1, mask=bad(True))),
    ("penalties.l2", "mask", lambda: penalties.l2(PARAMS, 0.1, mask=lambda name, leaf: False)),
    ("penalties.elastic_net", "l1_strength", lambda: penalties.elastic_net(PARAMS, -0.1, 0.1)),
    ("penalties.elastic_net", "l2_strength", lambda: penalties.elastic_net(PARAMS, 0.1, math.nan)),
    ("penalties.group_lasso", "strength", lambda: penalties.group_lasso(PARAMS, bad(None))),
    ("penalties.group_lasso", "dim", lambda: penalties.group_lasso(PARAMS, 0.1, dim=2)),
    ("penalties.group_lasso", "dim", lambda: penalties.group_lasso(PARAMS, 0.1, dim=bad(None))),
    ("penalties.group_lasso", "params's n", lambda: penalties.group_lasso({"n": INTEGERS}, 0.1)),
    ("penalties.group_lasso", "mask", lambda: penalties.group_lasso(PARAMS, 0.1, mask=lambda name, leaf: False)),
    ("penalties.l2_distance", "anchor", lambda: penalties.l2_distance(PARAMS, WEIGHT, 0.1)),
    ("penalties.l2_distance", "anchor", lambda: penalties.l2_distance(WEIGHT, {"0.weight": torch.ones(3, 2)}, 0.1)),
    ("penalties.l2_distance", "strength", lambda: penalties.l2_distance(PARAMS, PARAMS, -0.1)),
    ("penalties.orthogonality", "strength", lambda: penalties.orthogonality(PARAMS, torch.ones(1))),
    (
        "penalties.orthogonality",
        "params's 0.bias",
        lambda: penalties.orthogonality(PARAMS, 0.1, mask=lambda n, w: True),
    ),
    ("penalties.orthogonality", "params's bias", lambda: penalties.orthogonality({"bias": torch.ones(2)}, 0.1)),
    ("penalties.spectral", "strength", lambda: penalties.spectral(PARAMS, -0.1)),
    (
        "penalties.spectral",
        "params's 0.bias",
        lambda: penalties.spectral(PARAMS, 0.1, mask=lambda n, w: w.ndim == 1),
    ),
    ("penalties.spectral", "params's n", lambda: penalties.spectral({"n": INTEGERS}, 0.1)),
    ("penalties.jacobian", "function", lambda: penalties.jacobian(bad(X), X, 0.1, key=KEY)),
    ("penalties.jacobian", "function", lambda: penalties.jacobian(lambda x: x.sum(dim=1), X, 0.1, key=KEY)),
    ("penalties.jacobian", "function", lambda: penalties.jacobian(lambda x: x.sum(0, keepdim=True), X, 0.1, key=KEY)),
    ("penalties.jacobian", "function", lambda: penalties.jacobian(bad(lambda x: (x, x)), X, 0.1, key=KEY)),
    ("penalties.jacobian", "x", lambda: penalties.jacobian(lambda x: x, INTEGERS, 0.1, key=KEY)),
    ("penalties.jacobian", "x", lambda: penalties.jacobian(lambda x: x, torch.tensor(1.0), 0.1, key=KEY)),
    ("penalties.jacobian", "strength", lambda: penalties.jacobian(lambda x: x, X, -0.1, key=KEY)),
    ("penalties.jacobian", "key", lambda: penalties.jacobian(lambda x: x, X, 0.1, key=KEYS)),
    ("penalties.jacobian", "key", lambda: penalties.jacobian(lambda x: x, X.to("meta"), 0.1, key=KEY)),
    ("penalties.jacobian", "projections", lambda: penalties.jacobian(lambda x: x, X, 0.1, key=KEY, projections=0)),
    ("penalties.gradient_penalty", "function", lambda: penalties.gradient_penalty(bad(None), X, 0.1)),
    ("penalties.gradient_penalty", "function", lambda: penalties.gradient_penalty(lambda x: x, X, 0.1)),
    ("penalties.gradient_penalty", "function", lambda: penalties.gradient_penalty(lambda x: x.sum(), X, 0.1)),
    ("penalties.gradient_penalty", "x", lambda: penalties.gradient_penalty(lambda x: x.sum(1), INTEGERS, 0.1)),
    ("penalties.gradient_penalty", "strength", lambda: penalties.gradient_penalty(lambda x: x.sum(1), X, math.inf)),
    ("penalties.gradient_penalty", "target", lambda: penalties.gradient_penalty(lambda x: x.sum(1), X, 1, target=-1)),
    ("penalties.interpolate", "real", lambda: penalties.interpolate(INTEGERS, X, key=KEY)),
    ("penalties.interpolate", "fake", lambda: penalties.interpolate(X, X[:2], key=KEY)),
    ("penalties.interpolate", "fake", lambda: penalties.interpolate(X, bad(0.0), key=KEY)),
    ("penalties.interpolate", "key", lambda: penalties.interpolate(X, X, key=bad(3))),
    ("penalties.confidence", "logits", lambda: penalties.confidence(INTEGERS, 0.1)),
    ("penalties.confidence", "logits", lambda: penalties.confidence(torch.tensor(1.0), 0.1)),
    ("penalties.confidence", "strength", lambda: penalties.confidence(X, torch.ones(2))),
]

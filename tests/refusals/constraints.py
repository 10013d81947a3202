"""Bad arguments of `constraints`."""

import torch

from funcreg import constraints
from tests.refusals import INTEGERS, PARAMS, Refusal, bad

BIASES = {"0.bias": torch.ones(2)}

REFUSALS: list[Refusal] = [
    ("constraints.max_norm", "maximum", lambda: constraints.max_norm(PARAMS, -1.0)),
    ("constraints.max_norm", "maximum", lambda: constraints.max_norm(PARAMS, torch.ones(2))),
    ("constraints.max_norm", "maximum", lambda: constraints.max_norm(PARAMS, bad(None))),
    ("constraints.max_norm", "mask", lambda: constraints.max_norm(PARAMS, 1.0, mask=lambda name, leaf: False)),
    (
        "constraints.max_norm",
        "params's 0.bias",
        lambda: constraints.max_norm(PARAMS, 1.0, mask=lambda n, leaf: True),
    ),
    ("constraints.max_norm", "params's 0.bias", lambda: constraints.max_norm(BIASES, 1.0)),
    ("constraints.max_norm", "params's ids", lambda: constraints.max_norm({"ids": INTEGERS}, 1.0)),
    ("constraints.max_norm", "dim", lambda: constraints.max_norm(PARAMS, 1.0, dim=2)),
    ("constraints.max_norm", "dim", lambda: constraints.max_norm(PARAMS, 1.0, dim=bad(None))),
    ("constraints.unit_norm", "mask", lambda: constraints.unit_norm(PARAMS, mask=bad("weight"))),
    ("constraints.unit_norm", "params's 0.bias", lambda: constraints.unit_norm(PARAMS, mask=lambda name, leaf: True)),
    ("constraints.unit_norm", "dim", lambda: constraints.unit_norm(PARAMS, dim=-3)),
    ("constraints.non_negative", "mask", lambda: constraints.non_negative(PARAMS, mask=lambda name, leaf: False)),
    ("constraints.non_negative", "params's ids", lambda: constraints.non_negative({"ids": INTEGERS})),
    ("constraints.spectral_ball", "radius", lambda: constraints.spectral_ball(PARAMS, -0.5)),
    ("constraints.spectral_ball", "radius", lambda: constraints.spectral_ball(PARAMS, torch.ones(1))),
    ("constraints.spectral_ball", "mask", lambda: constraints.spectral_ball(PARAMS, mask=bad(True))),
    ("constraints.spectral_ball", "params's 0.bias", lambda: constraints.spectral_ball(BIASES)),
]

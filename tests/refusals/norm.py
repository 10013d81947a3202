"""Bad arguments of `norm`."""

import torch

from funcreg import norm
from tests.refusals import INTEGERS, Refusal, X, bad

STATS = norm.init_batch_stats(3)

REFUSALS: list[Refusal] = [
    ("norm.init_batch_stats", "channels", lambda: norm.init_batch_stats(0)),
    ("norm.batch_norm", "x", lambda: norm.batch_norm(INTEGERS, STATS, train=True)),
    ("norm.batch_norm", "x", lambda: norm.batch_norm(torch.ones(3), STATS, train=True)),
    ("norm.batch_norm", "x", lambda: norm.batch_norm(torch.ones(1, 3), STATS, train=True)),
    ("norm.batch_norm", "stats", lambda: norm.batch_norm(X, bad((X, X, X)), train=True)),
    ("norm.batch_norm", "stats.mean", lambda: norm.batch_norm(torch.ones(4, 2), STATS, train=True)),
    ("norm.batch_norm", "scale", lambda: norm.batch_norm(X, STATS, scale=torch.ones(2), train=True)),
    ("norm.batch_norm", "shift", lambda: norm.batch_norm(X, STATS, shift=bad(0.0), train=True)),
    ("norm.batch_norm", "train", lambda: norm.batch_norm(X, STATS, train=bad(None))),
    ("norm.batch_norm", "momentum", lambda: norm.batch_norm(X, STATS, train=True, momentum=1.1)),
    ("norm.batch_norm", "momentum", lambda: norm.batch_norm(X, STATS, train=True, momentum=torch.ones(2))),
    ("norm.batch_norm", "eps", lambda: norm.batch_norm(X, STATS, train=True, eps=-1e-5)),
]

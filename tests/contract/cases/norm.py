"""Cases of `norm`."""

import torch

from funcreg import norm, tree
from tests.contract.case import IMAGES, Case, drawn

CASES = [
    Case(
        "norm.batch_norm",
        lambda x, stats, scale, shift, momentum, eps, train=train_mode: norm.batch_norm(
            x, stats, scale=scale, shift=shift, train=train, momentum=momentum, eps=eps
        )[0],
        {**IMAGES, "stats": norm.init_batch_stats(2), "scale": drawn(22, 2), "shift": drawn(23, 2)},
        {"momentum": (0.0, 0.1, 1.0), "eps": (1e-5, 1e-3, 0.1)},
        variant="train" if train_mode else "evaluate",
    )
    for train_mode in (True, False)
] + [
    Case(
        "norm.batch_norm",
        lambda x, stats, momentum: norm.batch_norm(x, stats, train=True, momentum=momentum)[1],
        {**IMAGES, "stats": tree.cast(norm.init_batch_stats(2), torch.float64)},
        {"momentum": (0.0, 0.1, 1.0)},
        variant="statistics",
    )
]

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "norm.init_batch_stats": ("takes no tensor", "test_norm.py"),
}

"""Optimizers as chains of transforms, and learning-rate schedules.

    optimizer = adamw(1e-3)
    opt_state = optimizer.init(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = apply_updates(params, updates)

Each step equals that of `torch.optim`'s optimizer of the same name. A schedule is a function of
the number of updates made, an integer tensor, and gives the rate of the next one.

    optimizers.py  sgd, adam, adamw, rmsprop
    schedules.py   constant, step, exponential, cosine, warmup_cosine
"""

from .optimizers import adam, adamw, apply_updates, rmsprop, sgd
from .schedules import constant, cosine, exponential, step, warmup_cosine

__all__ = [
    "adam",
    "adamw",
    "apply_updates",
    "constant",
    "cosine",
    "exponential",
    "rmsprop",
    "sgd",
    "step",
    "warmup_cosine",
]

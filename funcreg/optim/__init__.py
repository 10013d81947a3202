"""Optimizers as chains of transforms, and learning-rate schedules.

    optimizer = adamw(1e-3)
    opt_state = optimizer.init(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = apply_updates(params, updates)

Each step equals that of `torch.optim`'s optimizer of the same name, where it has one. A schedule is a function of
the number of updates made, an integer tensor, and gives the rate of the next one.

    optimizers.py  sgd, adam, adamw, rmsprop
    variants.py    lion, nadam, radam
    orthogonal.py  muon
    schedules.py   constant, step, exponential, linear, cosine, warmup_cosine, one_cycle; one after another
"""

from .optimizers import adam, adamw, apply_updates, rmsprop, sgd
from .orthogonal import muon
from .schedules import constant, cosine, exponential, join_schedules, linear, one_cycle, step, warmup_cosine
from .variants import lion, nadam, radam

__all__ = [
    "adam",
    "adamw",
    "apply_updates",
    "constant",
    "cosine",
    "exponential",
    "join_schedules",
    "linear",
    "lion",
    "muon",
    "nadam",
    "one_cycle",
    "radam",
    "rmsprop",
    "sgd",
    "step",
    "warmup_cosine",
]

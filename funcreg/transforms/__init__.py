"""Gradient transforms: `Transform(init, update)`, composed by `chain`. What optimizers are made of.

    init(params) -> state
    update(grads, state, params) -> (updates, state)

State is a tuple or NamedTuple of tensors, `()` where there is nothing to remember. Every number
may be a tensor, and batched under `vmap`. Constants such as 1 - b2 and the bias corrections are
computed in float64: in float32 they alone move Adam by 1e-6 in a thousand steps.

    core.py           Transform, chain
    gradients.py      clipping, decay, freezing: nothing to remember
    moments.py        momentum and Adam's moments
    learning_rate.py  the step itself, with a schedule or not
"""

from .core import Number, Transform, chain
from .gradients import add_decayed_weights, clip_by_global_norm, freeze
from .learning_rate import Schedule, ScheduleState, scale_by_learning_rate
from .moments import AdamState, MomentumState, momentum, scale_by_adam

__all__ = [
    "AdamState",
    "MomentumState",
    "Number",
    "Schedule",
    "ScheduleState",
    "Transform",
    "add_decayed_weights",
    "chain",
    "clip_by_global_norm",
    "freeze",
    "momentum",
    "scale_by_adam",
    "scale_by_learning_rate",
]

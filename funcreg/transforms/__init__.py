"""Gradient transforms: `Transform(init, update)`, composed by `chain`. What optimizers are made of.

    init(params) -> state
    update(grads, state, params) -> (updates, state)

State is a tuple or NamedTuple of tensors, `()` where there is nothing to remember. Every number
may be a tensor, and batched under `vmap`. Constants such as 1 - b2 and the bias corrections are
computed in float64: in float32 they alone move Adam by 1e-6 in a thousand steps. 16-bit leaves are
computed in float32: moments and norms stay in it, and updates are float32's, rounded. Gradients and
states that do not fit the parameters are refused by the name of the leaf.

    core.py           Transform, chain
    clipping.py       gradients made smaller
    gradients.py      decay, freezing
    moments.py        momentum, Adam's moments, RMSprop's
    variants.py       Lion's, NAdam's, RAdam's
    orthogonal.py     Muon's
    learning_rate.py  multiples, by a number or a schedule: the step itself
    noise.py          Gaussian noise on gradients
    wrappers.py       transforms of a transform: accumulation, skipping what is not finite, float32 weights
    groups.py         transforms of some leaves
"""

from .clipping import adaptive_clip, clip_by_global_norm, clip_by_value, clip_per_example
from .core import Number, Transform, chain
from .gradients import add_decayed_weights, freeze
from .groups import Label, masked, partition
from .learning_rate import Schedule, ScheduleState, scale, scale_by_learning_rate, scale_by_schedule
from .moments import AdamState, MomentumState, RmsState, momentum, scale_by_adam, scale_by_rms
from .noise import add_noise
from .orthogonal import orthogonalize
from .variants import LionState, NadamState, RadamState, scale_by_lion, scale_by_nadam, scale_by_radam
from .wrappers import AccumulateState, MasterState, SkipState, accumulate, master_weights, skip_nonfinite

__all__ = [
    "AccumulateState",
    "AdamState",
    "Label",
    "LionState",
    "MasterState",
    "MomentumState",
    "NadamState",
    "Number",
    "RadamState",
    "RmsState",
    "Schedule",
    "ScheduleState",
    "SkipState",
    "Transform",
    "accumulate",
    "adaptive_clip",
    "add_decayed_weights",
    "add_noise",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "clip_per_example",
    "freeze",
    "masked",
    "master_weights",
    "momentum",
    "orthogonalize",
    "partition",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_schedule",
    "skip_nonfinite",
]

"""Normalisation: of activations, of weights, and of a data set's features.

    batch.py    batch norm: (x, stats, ...) -> (y, stats)
    layer.py    layer, RMS, group and instance norm: x -> y, each example by itself
    weight.py   weight norm; spectral norm: (weight, state) -> (weight, state)
    inputs.py   scaling that is fitted to a data set; rows of unit norm
    shared.py   checks

What is 16-bit is computed in float32, and rounded once at the end.
"""

from .batch import BatchStats, batch_norm, init_batch_stats
from .inputs import Scaling, apply_scaling, fit_min_max, fit_standard, unit_norm
from .layer import group_norm, instance_norm, layer_norm, rms_norm
from .weight import SpectralState, init_spectral_state, spectral_norm, weight_norm

__all__ = [
    "BatchStats",
    "Scaling",
    "SpectralState",
    "apply_scaling",
    "batch_norm",
    "fit_min_max",
    "fit_standard",
    "group_norm",
    "init_batch_stats",
    "init_spectral_state",
    "instance_norm",
    "layer_norm",
    "rms_norm",
    "spectral_norm",
    "unit_norm",
    "weight_norm",
]

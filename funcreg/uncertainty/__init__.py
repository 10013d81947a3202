"""Uncertainty: what many predictions say together, and how far probabilities can be trusted.

Probabilities have their classes on the last axis; entropies are in nats, with 0 log 0 = 0.

    predictive.py   mc_dropout, ensemble, from_samples, entropy: samples -> Predictive
    calibration.py  (probabilities, targets) -> score
    temperature.py  (logits, targets) -> temperature
"""

from .calibration import brier, expected_calibration_error, negative_log_likelihood
from .predictive import Predictive, ensemble, entropy, from_samples, mc_dropout
from .temperature import fit_temperature

__all__ = [
    "Predictive",
    "brier",
    "ensemble",
    "entropy",
    "expected_calibration_error",
    "fit_temperature",
    "from_samples",
    "mc_dropout",
    "negative_log_likelihood",
]

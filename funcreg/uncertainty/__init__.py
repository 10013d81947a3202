"""Uncertainty: what many predictions say together, and how far probabilities can be trusted.

Probabilities have their classes on the last axis; entropies are in nats, with 0 log 0 = 0.

    predictive.py   from_samples, entropy: sampled probabilities -> Predictive
    regression.py   regression_from_samples: sampled numbers -> RegressionPredictive
    heads.py        how a model's outputs are read: classes, numbers
    memory.py       the bytes that a call takes
    replay.py       a chunk's call for other members, without what no member changes
    program.py      a function of many members as two programs: what they share, and the rest
    chunking.py     how many members at a time
    predicting.py   what a function says for many members, a chunk at a time
    sampling.py     mc_dropout, ensemble: a model -> what its samples say, or the samples
    laplace.py      laplace, sample_laplace: a Gaussian around some parameters, by the curvature there
    calibration.py  (probabilities, targets) -> score, and the curve behind it
    scores.py       what is put in order, and refused where it cannot be
    detection.py    (scores, targets) -> how well the scores tell positives
    temperature.py  (logits, targets) -> temperature
    vector_scaling.py  (logits, targets) -> a scale and a bias for each class
    conformal.py    scores of held-out examples -> sets and intervals of new ones
"""

from .calibration import (
    ReliabilityCurve,
    brier,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)
from .conformal import (
    PredictionInterval,
    aps_scores,
    conformal_quantile,
    interval_scores,
    lac_scores,
    prediction_intervals,
    prediction_sets,
)
from .detection import auroc, average_precision, false_positive_rate
from .laplace import LaplaceState, laplace, sample_laplace
from .predictive import Predictive, entropy, from_samples
from .regression import RegressionPredictive, regression_from_samples
from .sampling import ensemble, mc_dropout
from .temperature import fit_temperature
from .vector_scaling import VectorScaling, apply_vector_scaling, fit_vector_scaling

__all__ = [
    "LaplaceState",
    "PredictionInterval",
    "Predictive",
    "RegressionPredictive",
    "ReliabilityCurve",
    "VectorScaling",
    "apply_vector_scaling",
    "aps_scores",
    "auroc",
    "average_precision",
    "brier",
    "classwise_calibration_error",
    "conformal_quantile",
    "ensemble",
    "entropy",
    "expected_calibration_error",
    "false_positive_rate",
    "fit_temperature",
    "fit_vector_scaling",
    "from_samples",
    "interval_scores",
    "lac_scores",
    "laplace",
    "mc_dropout",
    "negative_log_likelihood",
    "prediction_intervals",
    "prediction_sets",
    "regression_from_samples",
    "reliability_curve",
    "sample_laplace",
]

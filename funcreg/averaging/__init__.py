"""Averages of parameters over the steps of a run, draws around one, and the batch statistics that fit them.

    averaging = ema(0.999)
    average = averaging.init(params)
    average = averaging.update(average, params)    # after each step
    model.apply(average.params, state, x)

All move the average towards the new parameters by a weight: `average + weight * (params - average)`.
Batch statistics belong to the parameters that they were taken with: `refresh_statistics` afterwards.

    averages.py    ema, swa
    swag.py        swag, sample_swag: the mean, how far the parameters lie from it, and draws
    statistics.py  refresh_statistics
"""

from .averages import AverageState, Averaging, ema, swa
from .statistics import refresh_statistics
from .swag import SwagState, sample_swag, swag

__all__ = ["AverageState", "Averaging", "SwagState", "ema", "refresh_statistics", "sample_swag", "swa", "swag"]

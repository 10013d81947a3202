"""The spectral loss of signals as two questions measured it."""

from torch import Tensor

import funcreg as fr


def spectral(predictions: Tensor, targets: Tensor) -> Tensor:
    """`fr.losses.spectral_l2` of magnitudes that are not normalised by the signal's length."""
    return predictions.shape[-1] * fr.losses.spectral_l2(predictions, targets)

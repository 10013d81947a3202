"""Cases of `labels`."""

import torch

from funcreg import labels
from tests.contract.case import CLASSES, Case, drawn

SMOOTHING = {"smoothing": (0.1, 0.5, 1.0)}

CASES = [
    Case("labels.one_hot", lambda targets: labels.one_hot(targets, 4), {"targets": CLASSES}),
    Case("labels.smooth_labels", labels.smooth_labels, {"targets": torch.softmax(drawn(39, 6, 4), dim=-1)}, SMOOTHING),
    Case("labels.optimal_logit_gap", lambda smoothing: labels.optimal_logit_gap(smoothing, 10), settings=SMOOTHING),
    Case("labels.class_weights", lambda targets: labels.class_weights(targets, 5), {"targets": CLASSES}),
]

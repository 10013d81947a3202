"""Good calls of `labels`."""

import torch

from funcreg import labels
from tests.bad_arguments.call import CLASSES, SOFT, Call, call

CALLS: list[Call] = [
    call("labels.one_hot", labels.one_hot, targets=CLASSES, num_classes=3, dtype=torch.float32),
    call("labels.smooth_labels", labels.smooth_labels, targets=SOFT, smoothing=0.1),
    call("labels.optimal_logit_gap", labels.optimal_logit_gap, smoothing=0.1, num_classes=3),
    call("labels.class_weights", labels.class_weights, targets=CLASSES, num_classes=3, ignore_index=-100),
]

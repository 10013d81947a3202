"""Bad arguments of `labels`."""

import torch

from funcreg import labels
from tests.refusals import CLASSES, INTEGERS, Refusal, X, bad

REFUSALS: list[Refusal] = [
    ("labels.one_hot", "targets", lambda: labels.one_hot(X, 3)),
    ("labels.one_hot", "targets", lambda: labels.one_hot(CLASSES > 0, 3)),
    ("labels.one_hot", "targets", lambda: labels.one_hot(bad([0, 1]), 3)),
    ("labels.one_hot", "targets", lambda: labels.one_hot(CLASSES + 1, 3)),
    ("labels.one_hot", "targets", lambda: labels.one_hot(CLASSES - 100, 3)),
    ("labels.one_hot", "num_classes", lambda: labels.one_hot(CLASSES, 0)),
    ("labels.one_hot", "num_classes", lambda: labels.one_hot(CLASSES, bad(3.0))),
    ("labels.one_hot", "dtype", lambda: labels.one_hot(CLASSES, 3, dtype=bad("float32"))),
    ("labels.smooth_labels", "targets", lambda: labels.smooth_labels(INTEGERS, 0.1)),
    ("labels.smooth_labels", "targets", lambda: labels.smooth_labels(torch.tensor(1.0), 0.1)),
    ("labels.smooth_labels", "targets", lambda: labels.smooth_labels(bad(None), 0.1)),
    ("labels.smooth_labels", "targets", lambda: labels.smooth_labels(torch.tensor([-1.0, 1.0]), 0.1)),
    ("labels.smooth_labels", "smoothing", lambda: labels.smooth_labels(X, 1.1)),
    ("labels.smooth_labels", "smoothing", lambda: labels.smooth_labels(X, torch.ones(2))),
    ("labels.optimal_logit_gap", "smoothing", lambda: labels.optimal_logit_gap(-0.1, 10)),
    ("labels.optimal_logit_gap", "smoothing", lambda: labels.optimal_logit_gap(torch.ones(2), 10)),
    ("labels.optimal_logit_gap", "num_classes", lambda: labels.optimal_logit_gap(0.1, 1)),
    ("labels.class_weights", "targets", lambda: labels.class_weights(X, 3)),
    ("labels.class_weights", "targets", lambda: labels.class_weights(CLASSES - 1, 3)),
    ("labels.class_weights", "ignore_index", lambda: labels.class_weights(CLASSES, 3, ignore_index=bad("no"))),
    ("labels.class_weights", "num_classes", lambda: labels.class_weights(CLASSES, bad("3"))),
]
